import type { metricValue } from '@tuneloop/contracts/trainer/events';
import {
  type BootstrapInterval,
  bootstrapMean,
  bootstrapStatistic,
  groupDifferences,
  type PairedGroup,
} from '@tuneloop/metrics/bootstrap';
import { mean } from '@tuneloop/metrics/stats';
import {
  type ComparisonGroup,
  lengthControlledWinRate,
  lengthControlledWinRateInterval,
  winRate,
  winRateInterval,
} from '@tuneloop/metrics/winRate';
import type { z } from 'zod';
import { decidePromotion, type GateDecision } from './gate.ts';
import type { Evaluator } from './gateBlockers.ts';
import type { Guard } from './gateGuards.ts';
import type { SpendingInput } from './gateSpending.ts';
import type { LocalMethod } from './job.ts';

export type Metrics = Record<string, z.output<typeof metricValue>>;

/** Log-probabilities of one text under the base, what serves now, and the candidate. */
export interface TextScore {
  readonly base: number;
  readonly before: number;
  readonly after: number;
  readonly tokens: number;
}

/** A held-out example: its preferred answer and, for a preference, the other one. */
export interface PairScore {
  readonly groupKey: string;
  readonly chosen: TextScore;
  readonly rejected: TextScore | null;
}

/** What the judge said of one fresh sample of each side. */
export interface JudgedComparison {
  /** Index of the sample among its side's. */
  readonly candidate: number;
  readonly baseline: number;
  readonly candidateFirst: boolean;
  /** 1: the candidate's is better, 0: the other, 0.5: a tie. */
  readonly outcome: number;
  readonly candidateScore: number;
  readonly baselineScore: number;
  /** What the judge can count, by name. */
  readonly candidateDetails: Readonly<Record<string, number>>;
  readonly baselineDetails: Readonly<Record<string, number>>;
}

/** One test prompt. */
export interface FreshGroup {
  readonly groupId: string;
  readonly before: readonly string[];
  readonly after: readonly string[];
  readonly comparisons: readonly JudgedComparison[];
}

export interface EvaluationInput {
  readonly method: LocalMethod;
  readonly seed: string;
  readonly fresh: readonly FreshGroup[];
  readonly pairs: readonly PairScore[];
  readonly guard: readonly TextScore[];
  readonly evaluator: Evaluator;
  readonly leakedGroups: number;
  readonly openQuarantines: number;
  readonly spending: SpendingInput;
}

export interface EvaluationOutcome {
  readonly before: Metrics;
  readonly after: Metrics;
  /** After minus before, paired. */
  readonly difference: Metrics;
  readonly decision: GateDecision;
}

/** The candidate may make general texts this much less likely, measured against the base, so that losses never add up. */
const PERPLEXITY_MARGIN = 0.15;

export function wordCount(text: string): number {
  return text.split(/\s+/).filter((word) => word !== '').length;
}

/** All numbers of an evaluation and the gate's decision from what was sampled, judged and scored. Deterministic. */
export function evaluate(input: EvaluationInput): EvaluationOutcome {
  const measured = new Measured(input.seed);
  measureFresh(input.fresh, measured);
  measurePairs(input.pairs, measured);
  measurePerplexity(input, measured);
  const decision = decidePromotion({
    method: input.method,
    primary: { kind: 'winRate', groups: comparisonGroups(input.fresh) },
    guards: guardsOf(input),
    blockers: {
      evaluator: input.evaluator,
      leakedGroups: input.leakedGroups,
      openQuarantines: input.openQuarantines,
    },
    spending: input.spending,
    seed: input.seed,
  });
  return { before: measured.before, after: measured.after, difference: measured.difference, decision };
}

/** Collects metrics of both sides; every interval is over whole groups. */
class Measured {
  readonly before: Metrics = {};
  readonly after: Metrics = {};
  readonly difference: Metrics = {};
  readonly options: { readonly seed: string };

  constructor(seed: string) {
    this.options = { seed };
  }

  paired(name: string, groups: readonly PairedGroup[]): void {
    if (groups.length === 0) return;
    this.before[name] = this.#mean(groups.map((group) => mean(group.baseline)));
    this.after[name] = this.#mean(groups.map((group) => mean(group.candidate)));
    this.difference[name] = this.#mean([...groupDifferences(groups)]);
  }

  #mean(values: readonly number[]): Metrics[string] {
    return estimate(
      values.length,
      () => mean(values),
      () => bootstrapMean(values, this.options),
    );
  }
}

/** One group has a value but no spread: an interval takes two. */
function estimate(n: number, point: () => number, interval: () => BootstrapInterval): Metrics[string] {
  if (n < 2) return { value: point(), low: null, high: null, n };
  const { value, low, high } = interval();
  return { value, low: finite(low), high: finite(high), n };
}

function finite(x: number): number | null {
  return Number.isFinite(x) ? x : null;
}

function comparisonGroups(fresh: readonly FreshGroup[]): ComparisonGroup[] {
  return fresh.map((group) => ({
    groupId: group.groupId,
    comparisons: group.comparisons.map((comparison) => ({
      outcome: comparison.outcome,
      candidateFirst: comparison.candidateFirst,
      candidateLength: wordCount(group.after[comparison.candidate] ?? ''),
      baselineLength: wordCount(group.before[comparison.baseline] ?? ''),
    })),
  }));
}

function measureFresh(fresh: readonly FreshGroup[], measured: Measured): void {
  if (fresh.length === 0) return;
  const paired = (
    candidate: (c: JudgedComparison) => number | undefined,
    baseline: (c: JudgedComparison) => number | undefined,
  ): PairedGroup[] =>
    fresh.map(({ groupId, comparisons }) => ({
      groupId,
      candidate: comparisons.map((c) => candidate(c) ?? 0),
      baseline: comparisons.map((c) => baseline(c) ?? 0),
    }));
  measured.paired(
    'freshReward',
    paired(
      (c) => c.candidateScore,
      (c) => c.baselineScore,
    ),
  );
  const details = new Set(
    fresh.flatMap(({ comparisons }) => comparisons.flatMap((c) => Object.keys(c.candidateDetails))),
  );
  for (const name of details) {
    measured.paired(
      camelCase(name),
      paired(
        (c) => c.candidateDetails[name],
        (c) => c.baselineDetails[name],
      ),
    );
  }
  if (!details.has('words')) {
    measured.paired(
      'words',
      fresh.map(({ groupId, before, after }) => ({
        groupId,
        candidate: after.map(wordCount),
        baseline: before.map(wordCount),
      })),
    );
  }
  const groups = comparisonGroups(fresh);
  const rate = estimate(
    groups.length,
    () => winRate(groups),
    () => winRateInterval(groups, measured.options),
  );
  // Against itself the incumbent wins half of the time, by definition.
  measured.before.winRate = { value: 0.5, low: null, high: null, n: rate.n };
  measured.after.winRate = rate;
  measured.after.lengthControlledWinRate = estimate(
    groups.length,
    () => lengthControlledWinRate(groups).value,
    () => lengthControlledWinRateInterval(groups, measured.options),
  );
}

/**
 * Whether the preferred text of a held-out pair is the more likely one, ties one half. Whole texts are compared, which
 * favours short ones alike before and after: read it as a change.
 */
function measurePairs(pairs: readonly PairScore[], measured: Measured): void {
  const byGroup = new Map<string, { candidate: number[]; baseline: number[] }>();
  for (const { groupKey, chosen, rejected } of pairs) {
    if (!rejected) continue;
    const group = byGroup.get(groupKey) ?? { candidate: [], baseline: [] };
    group.candidate.push(prefers(chosen.after, rejected.after));
    group.baseline.push(prefers(chosen.before, rejected.before));
    byGroup.set(groupKey, group);
  }
  measured.paired(
    'preferenceAccuracy',
    [...byGroup].map(([groupId, group]) => ({ groupId, ...group })),
  );
}

function prefers(chosen: number, rejected: number): number {
  return chosen === rejected ? 0.5 : Number(chosen > rejected);
}

/** `perplexity` is of the base's guard texts, or of the preferred test answers where the base has none. */
function measurePerplexity({ guard, pairs }: EvaluationInput, measured: Measured): void {
  const chosen = pairs.map((pair) => pair.chosen);
  const sets: [string, readonly TextScore[]][] = [
    ['perplexity', guard.length > 0 ? guard : chosen],
    ['chosenPerplexity', chosen],
  ];
  for (const [name, texts] of sets) {
    if (texts.length === 0) continue;
    measured.before[name] = perplexityOf(texts, (text) => text.before, measured.options);
    measured.after[name] = perplexityOf(texts, (text) => text.after, measured.options);
  }
}

function perplexityOf(
  texts: readonly TextScore[],
  logProb: (text: TextScore) => number,
  options: { readonly seed: string },
): Metrics[string] {
  const statistic = (weights: ArrayLike<number>): number => {
    let sum = 0;
    let tokens = 0;
    texts.forEach((text, i) => {
      sum -= (weights[i] ?? 0) * logProb(text);
      tokens += (weights[i] ?? 0) * text.tokens;
    });
    return Math.exp(sum / tokens);
  };
  return estimate(
    texts.length,
    () => statistic([1]),
    () => bootstrapStatistic(texts.length, statistic, options),
  );
}

function guardsOf({ guard }: EvaluationInput): Guard[] {
  if (guard.length === 0) return [];
  return [
    {
      name: 'perplexity of general texts, against the base',
      higherIsBetter: false,
      scale: 'ratio',
      margin: PERPLEXITY_MARGIN,
      groups: guard.map((text, index) => ({
        groupId: `text ${index}`,
        candidate: [Math.exp(-text.after / text.tokens)],
        baseline: [Math.exp(-text.base / text.tokens)],
      })),
    },
  ];
}

function camelCase(name: string): string {
  return name.replaceAll(/_([a-z0-9])/g, (_whole, letter: string) => letter.toUpperCase());
}
