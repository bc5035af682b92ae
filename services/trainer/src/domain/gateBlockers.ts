import type { BootstrapDistribution, PairedGroup } from '@tuneloop/metrics/bootstrap';
import { groupDifferences, interval, lowerBound, resampleMean, resampleStatistic } from '@tuneloop/metrics/bootstrap';
import type { ComparisonGroup } from '@tuneloop/metrics/winRate';
import { lengthMatchedWinRate } from '@tuneloop/metrics/winRate';
import type { PrimaryEvidence } from './gatePrimary.ts';
import { thresholdOf } from './gatePrimary.ts';

/** Who or what said which answer is better. */
export type Evaluator =
  /** People. `scripted` marks a stand-in with a stated taste, as in the sample loop. */
  | { readonly kind: 'human'; readonly scripted?: boolean }
  /** Known right answers: labels, a checker, a formula over texts. */
  | { readonly kind: 'labels' }
  | {
      readonly kind: 'judge';
      readonly name: string;
      readonly madeTrainingData: boolean;
      /** Agreement with people: lower bound of quadratic-weighted kappa (or Krippendorff's alpha) over n items. */
      readonly agreement: { readonly lowerBound: number; readonly n: number; readonly bar: number } | null;
    };

export interface BlockerEvidence {
  readonly evaluator: Evaluator;
  /** Test groups that are also in training or validation. */
  readonly leakedGroups: number;
  /** Rows of the dataset that the data firewall still holds. */
  readonly openQuarantines: number;
  /** Scores of the reward model used in training, on the fresh samples of both sides; when there is one. */
  readonly rewardModelScores?: readonly PairedGroup[];
}

export type BlockerName =
  | 'leakage'
  | 'quarantine'
  | 'judge-trained-on'
  | 'judge-agreement'
  | 'position-bias'
  | 'length-only-win'
  | 'reward-without-win';

export interface BlockerResult {
  readonly name: BlockerName;
  readonly status: 'clear' | 'blocked' | 'not-applicable';
  /** One clause that a person can read. */
  readonly detail: string;
  /** Every number that the status rests on. */
  readonly numbers: Readonly<Record<string, number>>;
}

export const MIN_AGREEMENT_ITEMS = 100;
/** Fewer groups than this with length-matched answers cannot tell quality from length. */
export const MIN_LENGTH_MATCHED_GROUPS = 10;
/** The candidate must come first in 40% to 60% of the comparisons that have an order. */
export const MAX_ORDER_IMBALANCE = 0.1;
/** A judge is biased when its preference for a place moves the win rate by surely more than this. */
export const MAX_POSITION_EFFECT = 0.1;
const ALPHA = 0.05;

interface Options {
  readonly seed: number | string;
  readonly resamples: number;
}

/** All blockers, in the order in which a person should hear of them. */
export function checkBlockers(
  evidence: BlockerEvidence,
  primary: PrimaryEvidence,
  distribution: BootstrapDistribution,
  options: Options,
): BlockerResult[] {
  const comparisons = primary.kind === 'winRate' ? primary.groups : null;
  return [
    countBlocker('leakage', evidence.leakedGroups, 'test groups are also in training or validation'),
    countBlocker('quarantine', evidence.openQuarantines, 'rows are still in quarantine'),
    judgeTrainedOn(evidence.evaluator),
    judgeAgreement(evidence.evaluator),
    positionBias(comparisons, options),
    lengthOnlyWin(comparisons),
    rewardWithoutWin(evidence.rewardModelScores, distribution, thresholdOf(primary), options),
  ];
}

function countBlocker(name: 'leakage' | 'quarantine', count: number, what: string): BlockerResult {
  if (!Number.isInteger(count) || count < 0) throw new RangeError(`${name}: a count is needed, got ${count}`);
  return { name, status: count > 0 ? 'blocked' : 'clear', detail: `${count} ${what}`, numbers: { count } };
}

function judgeTrainedOn(evaluator: Evaluator): BlockerResult {
  const name = 'judge-trained-on';
  if (evaluator.kind !== 'judge') return notApplicable(name, 'no judge was used');
  const verb = evaluator.madeTrainingData ? 'made' : 'did not make';
  const status = evaluator.madeTrainingData ? 'blocked' : 'clear';
  return { name, status, detail: `the judge ${evaluator.name} ${verb} training data`, numbers: {} };
}

function judgeAgreement(evaluator: Evaluator): BlockerResult {
  const name = 'judge-agreement';
  if (evaluator.kind !== 'judge') return notApplicable(name, 'no judge was used');
  const { agreement } = evaluator;
  if (agreement === null || agreement.n < MIN_AGREEMENT_ITEMS) {
    const n = agreement?.n ?? 0;
    const detail = `the judge ${evaluator.name} was compared with people on ${n} of at least ${MIN_AGREEMENT_ITEMS} items`;
    return { name, status: 'blocked', detail, numbers: { n } };
  }
  const { lowerBound: low, n, bar } = agreement;
  const status = low >= bar ? 'clear' : 'blocked';
  const detail = `the judge ${evaluator.name} agrees with people at ${low.toFixed(2)} or more, bar ${bar.toFixed(2)}`;
  return { name, status, detail, numbers: { lowerBound: low, n, bar } };
}

/**
 * Half the difference of the win rate shown first and shown second is what the place alone does. With both orders in
 * equal number it cancels, so two things block: orders that are not balanced, and an effect so large that the judge
 * looks at places more than at answers.
 */
function positionBias(groups: readonly ComparisonGroup[] | null, options: Options): BlockerResult {
  const name = 'position-bias';
  const ordered = (groups ?? [])
    .map(({ comparisons }) => comparisons.filter(({ candidateFirst }) => candidateFirst !== undefined))
    .filter((comparisons) => comparisons.length > 0);
  if (ordered.length < 2) return notApplicable(name, 'no comparison had an order');
  const sums = ordered.map((comparisons) => {
    const first = comparisons.filter(({ candidateFirst }) => candidateFirst);
    const second = comparisons.filter(({ candidateFirst }) => !candidateFirst);
    return [sumOutcomes(first), first.length, sumOutcomes(second), second.length] as const;
  });
  const total = (column: 0 | 1 | 2 | 3): number => sums.reduce((sum, row) => sum + row[column], 0);
  const firstShare = total(1) / (total(1) + total(3));
  if (Math.abs(firstShare - 0.5) > MAX_ORDER_IMBALANCE) {
    const detail = `the candidate was shown first in ${percent(firstShare)} of comparisons`;
    return { name, status: 'blocked', detail, numbers: { firstShare } };
  }
  const effect = resampleStatistic(
    sums.length,
    (weights) => {
      const column = (at: 0 | 1 | 2 | 3): number => sums.reduce((sum, row, g) => sum + weights[g]! * row[at], 0);
      const [firstCount, secondCount] = [column(1), column(3)];
      if (firstCount === 0 || secondCount === 0) return 0; // a resample without one order shows no effect
      return (column(0) / firstCount - column(2) / secondCount) / 2;
    },
    { ...options, resamples: Math.min(options.resamples, 2000) },
  );
  const { value, low, high } = interval(effect, { alpha: ALPHA, smallSample: true });
  const blocked = low > MAX_POSITION_EFFECT || high < -MAX_POSITION_EFFECT;
  const detail = `the place shown moves the win rate by ${value.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})`;
  return { name, status: blocked ? 'blocked' : 'clear', detail, numbers: { firstShare, effect: value, low, high } };
}

function lengthOnlyWin(groups: readonly ComparisonGroup[] | null): BlockerResult {
  const name = 'length-only-win';
  if (groups === null) return notApplicable(name, 'the primary metric is not a win rate');
  const matched = lengthMatchedWinRate(groups);
  const numbers = { groups: matched.groups, comparisons: matched.comparisons };
  if (matched.value === undefined || matched.groups < MIN_LENGTH_MATCHED_GROUPS) {
    const detail = `only ${matched.groups} prompts have answers of nearly one length, so length explains the result as well`;
    return { name, status: 'blocked', detail, numbers };
  }
  const status = matched.value > 0.5 ? 'clear' : 'blocked';
  const detail = `the win rate among answers of nearly one length is ${matched.value.toFixed(3)} (${matched.groups} prompts)`;
  return { name, status, detail, numbers: { ...numbers, winRate: matched.value } };
}

/** The reward model is surely up while the primary metric, at the plain 95%, is not: it has been learnt, not pleased. */
function rewardWithoutWin(
  scores: readonly PairedGroup[] | undefined,
  distribution: BootstrapDistribution,
  threshold: number,
  options: Options,
): BlockerResult {
  const name = 'reward-without-win';
  if (scores === undefined || scores.length < 2) return notApplicable(name, 'no reward model was used');
  const gain = resampleMean(groupDifferences(scores), options);
  const rewardLow = lowerBound(gain, ALPHA, { smallSample: true });
  const primaryLow = lowerBound(distribution, ALPHA, { smallSample: true });
  const blocked = rewardLow > 0 && primaryLow <= threshold;
  const detail = `the reward model's score moved by ${gain.value.toFixed(3)} (at least ${rewardLow.toFixed(3)})`;
  const status = blocked ? 'blocked' : 'clear';
  return { name, status, detail, numbers: { rewardGain: gain.value, rewardLow, primaryLow, threshold } };
}

function notApplicable(name: BlockerName, detail: string): BlockerResult {
  return { name, status: 'not-applicable', detail, numbers: {} };
}

function sumOutcomes(comparisons: readonly { readonly outcome: number }[]): number {
  return comparisons.reduce((sum, comparison) => sum + comparison.outcome, 0);
}

function percent(share: number): string {
  return `${Math.round(share * 100)}%`;
}
