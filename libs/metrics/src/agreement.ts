import type { BootstrapInterval, BootstrapOptions } from './bootstrap.ts';
import { bootstrapStatistic } from './bootstrap.ts';

export type MeasurementLevel = 'nominal' | 'ordinal' | 'interval';

/** `[raters][units]`; null where a rater did not rate the unit. */
export type RatingTable = readonly (readonly (number | null)[])[];

/** More distinct values than this are not ratings. */
export const MAX_RATING_VALUES = 100;

/**
 * Cohen's kappa with quadratic weights (Cohen 1968) between two raters of the same items.
 *
 * With the squared difference of the ratings as weight, the disagreement expected by chance is
 * `var(a) + var(b) + (mean(a) - mean(b))^2`, so no table is needed and any equally spaced scale works. 0 when
 * neither rater varies: agreement is then certain by chance alone.
 */
export function quadraticWeightedKappa(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return kappaOf(a, b)(new Float64Array(a.length).fill(1));
}

/** {@link quadraticWeightedKappa} with an interval over items. */
export function quadraticWeightedKappaInterval(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  options: BootstrapOptions = {},
): BootstrapInterval {
  return bootstrapStatistic(a.length, kappaOf(a, b), options);
}

/**
 * Krippendorff's alpha (2011, "Computing Krippendorff's alpha-reliability") for any number of raters with missing
 * ratings. Units with fewer than two ratings say nothing and are left out. 0 when all ratings are the same.
 */
export function krippendorffAlpha(ratings: RatingTable, level: MeasurementLevel): number {
  const table = coincidences(ratings);
  return alphaOf(table, level)(new Float64Array(table.units.length).fill(1));
}

/** {@link krippendorffAlpha} with an interval over the units that have at least two ratings. */
export function krippendorffAlphaInterval(
  ratings: RatingTable,
  level: MeasurementLevel,
  options: BootstrapOptions = {},
): BootstrapInterval {
  const table = coincidences(ratings);
  return bootstrapStatistic(table.units.length, alphaOf(table, level), options);
}

function kappaOf(a: ArrayLike<number>, b: ArrayLike<number>): (weights: Float64Array) => number {
  if (a.length !== b.length || a.length === 0) {
    throw new RangeError(`kappa needs two lists of one length, at least one item: ${a.length}, ${b.length}`);
  }
  return (weights) => {
    let [n, sumA, sumB, squaresA, squaresB, disagreement] = [0, 0, 0, 0, 0, 0];
    for (let i = 0; i < a.length; i++) {
      const weight = weights[i]!;
      const [x, y] = [a[i]!, b[i]!];
      n += weight;
      sumA += weight * x;
      sumB += weight * y;
      squaresA += weight * x * x;
      squaresB += weight * y * y;
      disagreement += weight * (x - y) ** 2;
    }
    const expected = squaresA + squaresB - (2 * sumA * sumB) / n;
    return expected <= 0 ? 0 : 1 - disagreement / expected;
  };
}

interface Coincidences {
  /** Distinct ratings, ascending. */
  readonly values: readonly number[];
  /** Per unit with two or more ratings: `[values * values]` pair counts over (ratings - 1). */
  readonly units: readonly Float64Array[];
}

function coincidences(ratings: RatingTable): Coincidences {
  const present = ratings.flatMap((row) => row.filter((rating) => rating !== null));
  const values = [...new Set(present)].toSorted((x, y) => x - y);
  if (values.length > MAX_RATING_VALUES) throw new RangeError(`${values.length} distinct ratings`);
  const index = new Map(values.map((value, i) => [value, i]));
  const unitCount = Math.max(0, ...ratings.map((row) => row.length));
  const units: Float64Array[] = [];
  for (let unit = 0; unit < unitCount; unit++) {
    const given = ratings.map((row) => row[unit] ?? null).filter((rating) => rating !== null);
    if (given.length < 2) continue;
    const pairs = new Float64Array(values.length ** 2);
    given.forEach((first, i) => {
      given.forEach((second, j) => {
        if (i !== j) pairs[index.get(first)! * values.length + index.get(second)!]! += 1 / (given.length - 1);
      });
    });
    units.push(pairs);
  }
  if (units.length === 0) throw new RangeError('agreement needs a unit with at least two ratings');
  return { values, units };
}

function alphaOf({ values, units }: Coincidences, level: MeasurementLevel): (weights: Float64Array) => number {
  const size = values.length;
  const observed = new Float64Array(size * size);
  const totals = new Float64Array(size);
  return (weights) => {
    observed.fill(0);
    totals.fill(0);
    units.forEach((pairs, unit) => {
      const weight = weights[unit]!;
      if (weight === 0) return;
      for (let k = 0; k < pairs.length; k++) observed[k]! += weight * pairs[k]!;
    });
    let n = 0;
    for (let k = 0; k < observed.length; k++) {
      totals[Math.floor(k / size)]! += observed[k]!;
      n += observed[k]!;
    }
    let [disagreement, expected] = [0, 0];
    for (let c = 0; c < size; c++) {
      for (let k = c + 1; k < size; k++) {
        const distance = squaredDistance(values, totals, c, k, level);
        disagreement += observed[c * size + k]! * distance;
        expected += totals[c]! * totals[k]! * distance;
      }
    }
    return expected === 0 ? 0 : 1 - ((n - 1) * disagreement) / expected;
  };
}

function squaredDistance(
  values: readonly number[],
  totals: Float64Array,
  low: number,
  high: number,
  level: MeasurementLevel,
): number {
  if (level === 'nominal') return 1;
  if (level === 'interval') return (values[high]! - values[low]!) ** 2;
  let between = -(totals[low]! + totals[high]!) / 2; // ranks apart: half of each end, all of what lies between
  for (let g = low; g <= high; g++) between += totals[g]!;
  return between * between;
}
