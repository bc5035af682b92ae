import { incompleteBeta, incompleteGammaUpper } from './special.ts';

/** Arithmetic mean. Throws RangeError on an empty list: a mean of nothing would be read as a measurement. */
export function mean(values: ArrayLike<number>): number {
  if (values.length === 0) throw new RangeError('mean of no values');
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  return sum / values.length;
}

/** Unbiased sample variance (divisor n - 1), by two passes. Throws RangeError below two values. */
export function variance(values: ArrayLike<number>): number {
  if (values.length < 2) throw new RangeError('variance needs at least two values');
  const centre = mean(values);
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (values[i]! - centre) ** 2;
  return sum / (values.length - 1);
}

/** Square root of {@link variance}. */
export function standardDeviation(values: ArrayLike<number>): number {
  return Math.sqrt(variance(values));
}

/**
 * Quantile by linear interpolation between order statistics (Hyndman and Fan type 7, the default of numpy and R).
 *
 * @param values in any order; not changed
 * @param q in [0, 1]
 */
export function quantile(values: ArrayLike<number>, q: number): number {
  return quantileOfSorted(Float64Array.from(values).toSorted(), q);
}

/** As {@link quantile}, for values already in ascending order. */
export function quantileOfSorted(sorted: ArrayLike<number>, q: number): number {
  if (sorted.length === 0) throw new RangeError('quantile of no values');
  if (!(q >= 0 && q <= 1)) throw new RangeError(`quantile needs q in [0, 1], got ${q}`);
  const position = q * (sorted.length - 1);
  const below = Math.floor(position);
  const low = sorted[below]!;
  const high = sorted[Math.min(below + 1, sorted.length - 1)]!;
  return low + (high - low) * (position - below);
}

/** Standard normal distribution function; relative accuracy about 1e-13 into the far lower tail. */
export function normalCdf(z: number): number {
  const upper = 0.5 * incompleteGammaUpper(0.5, (z * z) / 2);
  return z < 0 ? upper : 1 - upper;
}

/** Standard normal density. */
export function normalPdf(z: number): number {
  return Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI);
}

/**
 * Standard normal quantile: a rational start (Abramowitz and Stegun 26.2.23, error below 4.5e-4) brought to double
 * precision by Halley steps on {@link normalCdf}. p of 0 and 1 give -Infinity and Infinity.
 */
export function normalPpf(p: number): number {
  if (!(p >= 0 && p <= 1)) throw new RangeError(`normalPpf needs p in [0, 1], got ${p}`);
  if (p === 0) return -Infinity;
  if (p === 1) return Infinity;
  if (p > 0.5) return -normalPpf(1 - p);
  const t = Math.sqrt(-2 * Math.log(p));
  const numerator = 2.515517 + t * (0.802853 + t * 0.010328);
  let z = numerator / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308))) - t;
  for (let step = 0; step < 3; step++) {
    // Newton on log(cdf): the cdf itself underflows its own density in the far tail.
    const cdf = normalCdf(z);
    const slope = normalPdf(z) / cdf;
    const error = Math.log(cdf / p) / slope;
    z -= error / (1 + (error * (z + slope)) / 2);
  }
  return z;
}

/** Student t distribution function with `df` degrees of freedom. */
export function studentTCdf(t: number, df: number): number {
  const tail = 0.5 * incompleteBeta(df / (df + t * t), df / 2, 0.5);
  return t < 0 ? tail : 1 - tail;
}

/** Student t quantile, by bisection on {@link studentTCdf} in the lower tail; absolute accuracy about 1e-12. */
export function studentTPpf(p: number, df: number): number {
  if (!(p >= 0 && p <= 1) || !(df > 0)) throw new RangeError(`studentTPpf needs p in [0, 1], df > 0: ${p}, ${df}`);
  if (p === 0) return -Infinity;
  if (p > 0.5) return -studentTPpf(1 - p, df);
  if (p === 0.5) return 0;
  let low = -1;
  while (studentTCdf(low, df) > p && low > -1e150) low *= 2;
  let high = 0;
  for (let step = 0; step < 200 && high - low > 1e-14 * -low; step++) {
    const middle = (low + high) / 2;
    if (studentTCdf(middle, df) < p) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** P(X > x) for a chi-square variable with `df` degrees of freedom. */
export function chiSquareSurvival(x: number, df: number): number {
  return x <= 0 ? 1 : incompleteGammaUpper(df / 2, x / 2);
}
