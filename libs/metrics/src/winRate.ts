import type { BootstrapDistribution, BootstrapInterval, BootstrapOptions, ResampleOptions } from './bootstrap.ts';
import { bootstrapMean, interval, resampleStatistic } from './bootstrap.ts';
import { mean } from './stats.ts';

/** One blind comparison of a fresh candidate answer with a fresh baseline answer to the same prompt. */
export interface Comparison {
  /** 1 candidate better, 0 baseline better, 0.5 tie; a graded judgement may lie between. */
  readonly outcome: number;
  /** In one unit for both, tokens by preference. */
  readonly candidateLength: number;
  readonly baselineLength: number;
  /** Which answer the judge saw first; absent when there was no order to see. */
  readonly candidateFirst?: boolean;
}

/** All comparisons of one group (a prompt). Groups, not comparisons, are the independent units. */
export interface ComparisonGroup {
  readonly groupId: string;
  readonly comparisons: readonly Comparison[];
}

export interface LengthControlledWinRate {
  /** Win rate at equal length, in [0, 1]. */
  readonly value: number;
  /** Change in log odds of a win from equal length to one typical length difference longer. */
  readonly lengthEffect: number;
}

export interface LengthMatchedWinRate {
  /** Absent when no comparison is length-matched. */
  readonly value: number | undefined;
  readonly comparisons: number;
  readonly groups: number;
}

/**
 * Weight of the pseudo-data that keep the regression finite when one side wins every time, in groups: ties at the
 * length terms -1, 0 and 1. Against 100 groups it moves the win rate by less than 0.0005 towards one half.
 */
const PRIOR_GROUPS = 0.1;
const PRIOR = -1;
/** Per group: the scores of a and b, then the information aa, ab, bb. */
const SUMS = 5;
const NEWTON_STEPS_MAX = 50;
const NEWTON_TOLERANCE = 1e-10;
const MATCH_RELATIVE = 0.1;
const MATCH_ABSOLUTE = 1;

/** Mean over groups of the mean outcome in the group; ties count one half. */
export function winRate(groups: readonly ComparisonGroup[]): number {
  return mean(groupWinRates(groups));
}

/** Interval of {@link winRate} over groups. */
export function winRateInterval(groups: readonly ComparisonGroup[], options: BootstrapOptions = {}): BootstrapInterval {
  return bootstrapMean(groupWinRates(groups), options);
}

/** Win rate in each group, in the order given. */
export function groupWinRates(groups: readonly ComparisonGroup[]): Float64Array {
  return Float64Array.from(groups, ({ groupId, comparisons }) => {
    if (comparisons.length === 0) throw new RangeError(`group ${groupId} has no comparisons`);
    return mean(comparisons.map((comparison) => comparison.outcome));
  });
}

/**
 * Win rate at equal length: the logistic regression
 * `logit P(win) = a + b * tanh((candidateLength - baselineLength) / s)`, read at equal length as `1 / (1 + exp(-a))`.
 * s is the root mean square length difference, so the term is odd and zero at equal length, and swapping the two
 * sides gives exactly one minus the value. Every group has weight one. The form is that of Dubois et al. 2024,
 * "Length-Controlled AlpacaEval", without its per-prompt and per-model terms, which one pair of models cannot have.
 */
export function lengthControlledWinRate(groups: readonly ComparisonGroup[]): LengthControlledWinRate {
  const { intercept, slope } = fit(designOf(groups));
  return { value: logistic(intercept), lengthEffect: slope * Math.tanh(1) };
}

/**
 * Resamples {@link lengthControlledWinRate} over groups. Each resample takes one Newton step from the full fit
 * (Moulton and Zeger 1991, "Bootstrapping generalized linear models") on each group's own score and information, so
 * it costs five sums and not a new regression.
 */
export function resampleLengthControlledWinRate(
  groups: readonly ComparisonGroup[],
  options: ResampleOptions = {},
): BootstrapDistribution {
  const design = designOf(groups);
  const { intercept, slope } = fit(design);
  const n = groups.length;
  const terms = new Float64Array(n * SUMS);
  const prior = new Float64Array(SUMS);
  for (let i = 0; i < design.weight.length; i++) {
    const group = design.group[i]!;
    if (group === PRIOR) accumulate(prior, 0, design, i, intercept, slope);
    else accumulate(terms, group * SUMS, design, i, intercept, slope);
  }
  const sums = new Float64Array(SUMS);
  const oneStep = (weights: Float64Array): number => {
    sums.set(prior);
    for (let g = 0; g < n; g++) {
      const weight = weights[g]!;
      if (weight === 0) continue;
      const at = g * SUMS;
      for (let k = 0; k < SUMS; k++) sums[k]! += weight * terms[at + k]!;
    }
    return logistic(intercept + newtonStep(sums)[0]);
  };
  return resampleStatistic(n, oneStep, options);
}

/** Interval of {@link lengthControlledWinRate} over groups. */
export function lengthControlledWinRateInterval(
  groups: readonly ComparisonGroup[],
  options: BootstrapOptions = {},
): BootstrapInterval {
  return interval(resampleLengthControlledWinRate(groups, options), options);
}

/**
 * Win rate among the comparisons whose two answers are of nearly the same length: they differ by at most `absolute`
 * units or by `relative` times their mean length, whichever is more. No model stands behind it, so it checks the
 * regression. Averaged within groups first.
 */
export function lengthMatchedWinRate(
  groups: readonly ComparisonGroup[],
  { relative = MATCH_RELATIVE, absolute = MATCH_ABSOLUTE }: { relative?: number; absolute?: number } = {},
): LengthMatchedWinRate {
  const means: number[] = [];
  let count = 0;
  for (const group of groups) {
    const matched = group.comparisons.filter(({ candidateLength, baselineLength }) => {
      const allowed = Math.max(absolute, (relative * (candidateLength + baselineLength)) / 2);
      return Math.abs(candidateLength - baselineLength) <= allowed;
    });
    if (matched.length === 0) continue;
    count += matched.length;
    means.push(mean(matched.map((comparison) => comparison.outcome)));
  }
  return { value: means.length === 0 ? undefined : mean(means), comparisons: count, groups: means.length };
}

interface Design {
  readonly outcome: Float64Array;
  readonly length: Float64Array;
  readonly weight: Float64Array;
  /** Index of the group; PRIOR marks the pseudo-data, which every resample keeps. */
  readonly group: Int32Array;
}

function designOf(groups: readonly ComparisonGroup[]): Design {
  if (groups.length === 0) throw new RangeError('win rate of no groups');
  const rows: { outcome: number; difference: number; weight: number; group: number }[] = [];
  groups.forEach(({ groupId, comparisons }, group) => {
    if (comparisons.length === 0) throw new RangeError(`group ${groupId} has no comparisons`);
    for (const { outcome, candidateLength, baselineLength } of comparisons) {
      if (!(outcome >= 0 && outcome <= 1)) throw new RangeError(`group ${groupId}: outcome ${outcome} not in [0, 1]`);
      const difference = candidateLength - baselineLength;
      if (!Number.isFinite(difference)) throw new RangeError(`group ${groupId}: lengths must be finite`);
      rows.push({ outcome, difference, weight: 1 / comparisons.length, group });
    }
  });
  const scale = Math.sqrt(mean(rows.map((row) => row.difference ** 2))) || 1;
  const priorTerms = [-1, 0, 1];
  const priorWeight = PRIOR_GROUPS / priorTerms.length;
  return {
    outcome: Float64Array.from([...rows.map((row) => row.outcome), ...priorTerms.map(() => 0.5)]),
    length: Float64Array.from([...rows.map((row) => Math.tanh(row.difference / scale)), ...priorTerms]),
    weight: Float64Array.from([...rows.map((row) => row.weight), ...priorTerms.map(() => priorWeight)]),
    group: Int32Array.from([...rows.map((row) => row.group), ...priorTerms.map(() => PRIOR)]),
  };
}

function fit(design: Design): { intercept: number; slope: number } {
  let intercept = 0;
  let slope = 0;
  const sums = new Float64Array(SUMS);
  for (let step = 0; step < NEWTON_STEPS_MAX; step++) {
    sums.fill(0);
    for (let i = 0; i < design.weight.length; i++) accumulate(sums, 0, design, i, intercept, slope);
    const [da, db] = newtonStep(sums);
    // A full step may overshoot when one side nearly always wins; the log likelihood is concave, so a cap suffices.
    const cap = Math.min(1, 2 / Math.max(Math.abs(da), Math.abs(db), 1e-300));
    intercept += da * cap;
    slope += db * cap;
    if (Math.abs(da) + Math.abs(db) < NEWTON_TOLERANCE) break;
  }
  return { intercept, slope };
}

/** Adds the score and information of row i under the given coefficients to five sums starting at `at`. */
function accumulate(sums: Float64Array, at: number, design: Design, i: number, intercept: number, slope: number): void {
  const x = design.length[i]!;
  const weight = design.weight[i]!;
  const probability = logistic(intercept + slope * x);
  const residual = weight * (design.outcome[i]! - probability);
  const information = weight * probability * (1 - probability);
  sums[at]! += residual;
  sums[at + 1]! += residual * x;
  sums[at + 2]! += information;
  sums[at + 3]! += information * x;
  sums[at + 4]! += information * x * x;
}

function newtonStep(sums: Float64Array): [number, number] {
  const [scoreA, scoreB, aa, ab, bb] = [sums[0]!, sums[1]!, sums[2]!, sums[3]!, sums[4]!];
  const determinant = aa * bb - ab * ab;
  return [(bb * scoreA - ab * scoreB) / determinant, (aa * scoreB - ab * scoreA) / determinant];
}

function logistic(x: number): number {
  return 1 / (1 + Math.exp(-x));
}
