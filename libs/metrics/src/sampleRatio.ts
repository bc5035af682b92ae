import { chiSquareSurvival } from './stats.ts';

export interface SampleRatioResult {
  readonly chiSquare: number;
  readonly pValue: number;
  /** True when the arms are too far from their shares for chance: assignment or logging is broken. */
  readonly mismatch: boolean;
}

/** Customary for this check: a false alarm discards a good experiment, and real faults give far smaller p-values. */
export const SAMPLE_RATIO_THRESHOLD = 0.001;

/**
 * Pearson's chi-square test of users per arm against the planned shares.
 *
 * @param observed users per arm, at least two arms
 * @param shares planned shares, in any unit
 */
export function sampleRatioMismatch(
  observed: readonly number[],
  shares: readonly number[],
  threshold = SAMPLE_RATIO_THRESHOLD,
): SampleRatioResult {
  const users = observed.reduce((sum, count) => sum + count, 0);
  const whole = shares.reduce((sum, share) => sum + share, 0);
  if (observed.length !== shares.length || observed.length < 2 || shares.some((share) => !(share > 0))) {
    throw new RangeError('needs one positive share per arm, at least two arms');
  }
  if (users === 0) return { chiSquare: 0, pValue: 1, mismatch: false };
  let chiSquare = 0;
  observed.forEach((count, arm) => {
    const expected = (users * shares[arm]!) / whole;
    chiSquare += (count - expected) ** 2 / expected;
  });
  const pValue = chiSquareSurvival(chiSquare, observed.length - 1);
  return { chiSquare, pValue, mismatch: pValue < threshold };
}
