import { normalCdf, normalPpf } from './stats.ts';

export type SpendingFunction = 'obrien-fleming' | 'pocock' | 'linear';

export interface SpendingRequest {
  readonly spending: SpendingFunction;
  /** One-sided error allowed in all, for example 0.05. */
  readonly total: number;
  /** Decisions planned for the period; more may come, but find nothing left to spend. */
  readonly expectedDecisions: number;
  /** Tests already made in the period. */
  readonly decisionsMade: number;
  /** Error already spent on them. */
  readonly alphaSpent: number;
}

export interface SpendingStep {
  /** One-sided level of this test; 0 when the budget is spent. */
  readonly alpha: number;
  /** 1 for the first test of the period. */
  readonly decisionIndex: number;
  /** decisionIndex / expectedDecisions, at most 1. */
  readonly informationFraction: number;
  readonly spentAfter: number;
}

/**
 * Error that may have been spent by information fraction t (Lan and DeMets 1983): O'Brien-Fleming-like
 * `2 - 2 Phi(z(1 - total/2) / sqrt(t))`, Pocock-like `total ln(1 + (e - 1) t)`, or linear `total t`.
 */
export function cumulativeAlpha(spending: SpendingFunction, t: number, total: number): number {
  if (!(total > 0 && total < 1)) throw new RangeError(`total must be in (0, 1), got ${total}`);
  if (!(t >= 0)) throw new RangeError(`information fraction must not be negative, got ${t}`);
  if (t === 0) return 0;
  if (t >= 1) return total;
  if (spending === 'linear') return total * t;
  if (spending === 'pocock') return total * Math.log(1 + (Math.E - 1) * t);
  return 2 * normalCdf(normalPpf(total / 2) / Math.sqrt(t));
}

/**
 * Level of the next test. The levels of a period add up to at most `total` whatever is tested and however the tests
 * depend on each other (Bonferroni's inequality). Group-sequential boundaries are less strict, but only because
 * their looks are at one growing sample; here every decision has a candidate of its own.
 */
export function nextAlpha(request: SpendingRequest): SpendingStep {
  const { spending, total, expectedDecisions, decisionsMade, alphaSpent } = request;
  if (!Number.isInteger(expectedDecisions) || expectedDecisions < 1) {
    throw new RangeError(`expectedDecisions must be a positive integer, got ${expectedDecisions}`);
  }
  if (!Number.isInteger(decisionsMade) || decisionsMade < 0 || !(alphaSpent >= 0)) {
    throw new RangeError(`decisionsMade and alphaSpent must not be negative: ${decisionsMade}, ${alphaSpent}`);
  }
  const decisionIndex = decisionsMade + 1;
  const informationFraction = Math.min(1, decisionIndex / expectedDecisions);
  const allowed = cumulativeAlpha(spending, informationFraction, total);
  const alpha = Math.max(0, allowed - alphaSpent);
  return { alpha, decisionIndex, informationFraction, spentAfter: alphaSpent + alpha };
}
