import type { BootstrapDistribution, PairedGroup } from '@tuneloop/metrics/bootstrap';
import { groupDifferences, lowerBound, resampleMean, resampleStatistic, upperBound } from '@tuneloop/metrics/bootstrap';
import { normalPpf, standardDeviation } from '@tuneloop/metrics/stats';
import type { ComparisonGroup } from '@tuneloop/metrics/winRate';
import { groupWinRates, resampleLengthControlledWinRate, winRate } from '@tuneloop/metrics/winRate';

export type TrainingMethod = 'sft' | 'dpo' | 'kto' | 'grpo' | 'ppo' | 'reward' | 'classifier';

/** Labelled rows of one test group, with the label that each side predicts. */
export interface ClassifiedGroup {
  readonly groupId: string;
  readonly rows: readonly { readonly actual: string; readonly candidate: string; readonly baseline: string }[];
}

/**
 * What the decision rests on, one entry per test group (a prompt). Paired values are higher for the better side.
 * The score of a reward model used in training has no kind here: it is never the primary metric.
 */
export type PrimaryEvidence =
  | { readonly kind: 'winRate'; readonly groups: readonly ComparisonGroup[] }
  | { readonly kind: 'taskMetric'; readonly name: string; readonly groups: readonly PairedGroup[] }
  | { readonly kind: 'preferenceAccuracy'; readonly groups: readonly PairedGroup[] }
  | { readonly kind: 'macroF1'; readonly groups: readonly ClassifiedGroup[] };

export interface PrimaryResult {
  readonly name: string;
  readonly value: number;
  /** Two-sided 95% interval, for reading; the decision uses lowerBound. */
  readonly low: number;
  readonly high: number;
  /** Test groups. */
  readonly n: number;
  /** One-sided level of lowerBound, left by alpha spending. */
  readonly alpha: number;
  /** Absent (null) when no error is left to spend. */
  readonly lowerBound: number | null;
  /** What lowerBound must exceed: 0.5 for a win rate, 0 for a difference. */
  readonly threshold: number;
  readonly passed: boolean;
  /** Win rate without length control, for a win rate. */
  readonly rawWinRate: number | null;
  readonly resamples: number;
}

export interface EvidenceNeed {
  readonly groups: number;
  readonly minimumGroups: number;
  /** Effect that the estimate plans for, on the scale of the primary metric above its threshold. */
  readonly plannedEffect: number;
  /** Groups that find the planned effect with the planned power, at least minimumGroups. */
  readonly targetGroups: number;
  readonly moreGroups: number;
}

export const MIN_TEST_GROUPS = 100;
export const PLANNED_POWER = 0.8;
/** A win rate of 0.6, or five points of accuracy, F1 or the task metric. */
const PLANNED_WIN_RATE_EFFECT = 0.1;
const PLANNED_DIFFERENCE = 0.05;
/** Below this many groups their own spread is no guide; a coin's, the largest possible, stands in. */
const MIN_GROUPS_FOR_SPREAD = 10;
const COIN_DEVIATION = 0.5;
const DISPLAY_ALPHA = 0.05;

/** The kinds of evidence that may decide for each method, the preferred one first (GATE 2). */
const ALLOWED: Readonly<Record<TrainingMethod, readonly PrimaryEvidence['kind'][]>> = {
  sft: ['taskMetric', 'winRate'],
  dpo: ['winRate'],
  kto: ['winRate'],
  grpo: ['winRate'],
  ppo: ['winRate'],
  reward: ['preferenceAccuracy'],
  classifier: ['macroF1', 'taskMetric'],
};

/** Throws RangeError when the method may not be decided on this evidence, or a group appears twice. */
export function requireSoundEvidence(method: TrainingMethod, primary: PrimaryEvidence): void {
  if (!ALLOWED[method].includes(primary.kind)) {
    throw new RangeError(`${method} is decided on ${ALLOWED[method].join(' or ')}, not on ${primary.kind}`);
  }
  const ids = new Set(primary.groups.map((group) => group.groupId));
  if (ids.size !== primary.groups.length) throw new RangeError('a test group appears twice');
}

/** Name of the metric as a person reads it. */
function primaryName(primary: PrimaryEvidence): string {
  if (primary.kind === 'taskMetric') return primary.name;
  if (primary.kind === 'winRate') return 'length-controlled win rate';
  return primary.kind === 'macroF1' ? 'macro F1 gain' : 'preference accuracy gain';
}

/** How many groups the evidence has, and about how many it would take. */
export function evidenceNeed(primary: PrimaryEvidence, alpha: number): EvidenceNeed {
  const groups = primary.groups.length;
  const plannedEffect = primary.kind === 'winRate' ? PLANNED_WIN_RATE_EFFECT : PLANNED_DIFFERENCE;
  const deviation = spread(primary);
  // The normal-theory size of a one-sided test: ((z(1 - alpha) + z(power)) * deviation / effect)^2.
  const quantiles = normalPpf(PLANNED_POWER) - normalPpf(alpha);
  const required = Math.ceil(((quantiles * deviation) / plannedEffect) ** 2);
  const targetGroups = Math.max(MIN_TEST_GROUPS, required);
  const moreGroups = Math.max(0, targetGroups - groups);
  return { groups, minimumGroups: MIN_TEST_GROUPS, plannedEffect, targetGroups, moreGroups };
}

/** Resamples the primary metric over test groups: the win rate, or the candidate's gain over the baseline. */
export function resamplePrimary(
  primary: PrimaryEvidence,
  options: { readonly seed: number | string; readonly resamples: number },
): BootstrapDistribution {
  if (primary.kind === 'winRate') return resampleLengthControlledWinRate(primary.groups, options);
  if (primary.kind === 'macroF1') return resampleMacroF1Gain(primary.groups, options);
  return resampleMean(groupDifferences(primary.groups), options);
}

/** Reads the interval and the bound at the level that is left. */
export function judgePrimary(
  primary: PrimaryEvidence,
  distribution: BootstrapDistribution,
  alpha: number,
): PrimaryResult {
  const threshold = thresholdOf(primary);
  const bound = alpha > 0 ? lowerBound(distribution, alpha, { smallSample: true }) : -Infinity;
  return {
    name: primaryName(primary),
    value: distribution.value,
    low: lowerBound(distribution, DISPLAY_ALPHA / 2, { smallSample: true }),
    high: upperBound(distribution, DISPLAY_ALPHA / 2, { smallSample: true }),
    n: distribution.n,
    alpha,
    lowerBound: Number.isFinite(bound) ? bound : null,
    threshold,
    passed: bound > threshold,
    rawWinRate: primary.kind === 'winRate' ? winRate(primary.groups) : null,
    resamples: distribution.replicates.length,
  };
}

/** What the primary metric is at no difference. */
export function thresholdOf(primary: PrimaryEvidence): number {
  return primary.kind === 'winRate' ? 0.5 : 0;
}

function spread(primary: PrimaryEvidence): number {
  if (primary.groups.length < MIN_GROUPS_FOR_SPREAD) return COIN_DEVIATION;
  if (primary.kind === 'winRate') return standardDeviation(groupWinRates(primary.groups));
  if (primary.kind === 'macroF1') {
    // F1 has no value per group; the gain in accuracy has nearly its spread.
    return standardDeviation(
      primary.groups.map(({ rows }) => {
        const gain = (row: (typeof rows)[number]): number =>
          Number(row.candidate === row.actual) - Number(row.baseline === row.actual);
        return rows.reduce((sum, row) => sum + gain(row), 0) / rows.length;
      }),
    );
  }
  return standardDeviation(groupDifferences(primary.groups));
}

function resampleMacroF1Gain(
  groups: readonly ClassifiedGroup[],
  options: { readonly seed: number | string; readonly resamples: number },
): BootstrapDistribution {
  const labels = [...new Set(groups.flatMap(({ rows }) => rows.flatMap((row) => Object.values(row))))].toSorted();
  const sides = (['candidate', 'baseline'] as const).map((side) => tallies(groups, labels, side));
  return resampleStatistic(
    groups.length,
    (weights) => macroF1(sides[0]!, labels.length, weights) - macroF1(sides[1]!, labels.length, weights),
    options,
  );
}

/** `[groups][labels * 3]`: rows right, predicted and actual of each label. */
function tallies(
  groups: readonly ClassifiedGroup[],
  labels: readonly string[],
  side: 'candidate' | 'baseline',
): Float64Array[] {
  const index = new Map(labels.map((label, i) => [label, 3 * i]));
  return groups.map(({ rows }) => {
    const tally = new Float64Array(labels.length * 3);
    for (const row of rows) {
      const [actual, predicted] = [index.get(row.actual)!, index.get(row[side])!];
      if (actual === predicted) tally[actual]! += 1;
      tally[predicted + 1]! += 1;
      tally[actual + 2]! += 1;
    }
    return tally;
  });
}

function macroF1(tallied: readonly Float64Array[], labels: number, weights: Float64Array): number {
  const sums = new Float64Array(labels * 3);
  tallied.forEach((tally, group) => {
    const weight = weights[group]!;
    if (weight === 0) return;
    for (let k = 0; k < sums.length; k++) sums[k]! += weight * tally[k]!;
  });
  let total = 0;
  for (let label = 0; label < labels; label++) {
    const [right, predicted, actual] = [sums[3 * label]!, sums[3 * label + 1]!, sums[3 * label + 2]!];
    if (right > 0) total += (2 * right) / (predicted + actual);
  }
  return total / labels;
}
