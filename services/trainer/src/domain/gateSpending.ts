import type { SpendingFunction, SpendingStep } from '@tuneloop/metrics/alphaSpending';
import { nextAlpha } from '@tuneloop/metrics/alphaSpending';

/** What a slot has spent since its test split was last refreshed enough; kept by the caller between decisions. */
export interface SpendingHistory {
  /** Quarter in which the period began, such as `2026-Q4`. */
  readonly quarter: string;
  /** Tests made in the period. */
  readonly decisions: number;
  readonly alphaSpent: number;
  /** Any hash of the test split as it was when the period began. */
  readonly testSplit: string;
}

export interface SpendingInput {
  /** Null before the slot's first decision. */
  readonly history: SpendingHistory | null;
  readonly quarter: string;
  /** Hash of the test split now. */
  readonly testSplit: string;
  /** Share, 0 to 1, of the test groups of now that were not in the split when the period began. */
  readonly refreshedShare: number;
  /** Decisions planned per quarter; a level is set aside for each. */
  readonly expectedDecisions: number;
  /** Default obrien-fleming. */
  readonly spending?: SpendingFunction;
  /** Default 0.05, one-sided. */
  readonly total?: number;
}

export interface SpendingResult {
  readonly spending: SpendingFunction;
  readonly total: number;
  readonly spentBefore: number;
  readonly spentAfter: number;
  readonly alpha: number;
  readonly decisionIndex: number;
  readonly expectedDecisions: number;
  readonly informationFraction: number;
  /** True when this decision began a new period. */
  readonly reset: boolean;
  /** To be stored with the decision and handed in with the next. */
  readonly next: SpendingHistory;
}

export const DEFAULT_TOTAL_ALPHA = 0.05;
export const MIN_REFRESHED_SHARE = 0.5;

/** Level of the next test, and the history after it. */
export function planSpending(input: SpendingInput): SpendingResult {
  const { history, expectedDecisions, spending = 'obrien-fleming', total = DEFAULT_TOTAL_ALPHA } = input;
  const reset = beginsPeriod(input);
  const fresh: SpendingHistory = { quarter: input.quarter, decisions: 0, alphaSpent: 0, testSplit: input.testSplit };
  const period = reset || history === null ? fresh : history;
  const step: SpendingStep = nextAlpha({
    spending,
    total,
    expectedDecisions,
    decisionsMade: period.decisions,
    alphaSpent: period.alphaSpent,
  });
  return {
    spending,
    total,
    spentBefore: period.alphaSpent,
    spentAfter: step.spentAfter,
    alpha: step.alpha,
    decisionIndex: step.decisionIndex,
    expectedDecisions,
    informationFraction: step.informationFraction,
    reset,
    next: { ...period, decisions: step.decisionIndex, alphaSpent: step.spentAfter },
  };
}

/** The same plan with nothing tested and nothing spent. */
export function withoutTest(plan: SpendingResult): SpendingResult {
  const { spentBefore, decisionIndex, next } = plan;
  return {
    ...plan,
    alpha: 0,
    spentAfter: spentBefore,
    next: { ...next, decisions: decisionIndex - 1, alphaSpent: spentBefore },
  };
}

/**
 * A new quarter alone does not give the error back: the old test groups have been looked at, and candidates have been
 * chosen by them. Nor does a new split within the quarter, whose total would then be passed.
 */
function beginsPeriod({ history, quarter, testSplit, refreshedShare }: SpendingInput): boolean {
  if (!(refreshedShare >= 0 && refreshedShare <= 1)) {
    throw new RangeError(`refreshedShare must be in [0, 1], got ${refreshedShare}`);
  }
  if (history === null) return true;
  return quarter !== history.quarter && testSplit !== history.testSplit && refreshedShare >= MIN_REFRESHED_SHARE;
}
