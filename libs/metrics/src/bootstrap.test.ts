import { describe, expect, it } from 'vitest';
import fixture from '../fixtures/statistics.json' with { type: 'json' };
import type { BootstrapDistribution } from './bootstrap.ts';
import {
  bootstrapMean,
  bootstrapPairedDifference,
  bootstrapStatistic,
  interval,
  lowerBound,
  resampleMean,
  resampleStatistic,
  upperBound,
} from './bootstrap.ts';
import { createRandom, gaussian } from './random.ts';
import { mean, normalCdf, normalPpf, standardDeviation } from './stats.ts';

/**
 * Largest difference to scipy's interval end that resampling explains: scipy's ends come from 200,000 resamples, ours
 * from 50,000, and an end at tail probability p has standard error sqrt(p (1 - p) / B) / density, the density that of
 * a normal variable with the bootstrap's standard error. Five joint standard errors, plus the noise that z0 brings.
 */
function tolerance(p: number, standardError: number): number {
  const z = normalPpf(p);
  const density = Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI) / standardError;
  const perResample = (p * (1 - p)) / density ** 2 + (2 * standardError) ** 2 * 1.6;
  return 5 * Math.sqrt(perResample * (1 / 50_000 + 1 / 200_000));
}

describe('BCa against scipy', () => {
  it.each(fixture.bootstrap)('agrees with scipy.stats.bootstrap, case %#', (reference) => {
    const resamples = resampleMean(reference.values, { resamples: 50_000, seed: 3 });
    expect(resamples.acceleration).toBeCloseTo(reference.acceleration, 12);
    const { low, high } = interval(resamples);
    const se = reference.standardError;
    expect(Math.abs(low - reference.twoSided[0]!)).toBeLessThan(tolerance(0.025, se));
    expect(Math.abs(high - reference.twoSided[1]!)).toBeLessThan(tolerance(0.025, se));
    expect(Math.abs(lowerBound(resamples, 0.05) - reference.lower[0]!)).toBeLessThan(tolerance(0.05, se));
    expect(Math.abs(lowerBound(resamples, 0.001) - reference.lower999[0]!)).toBeLessThan(tolerance(0.001, se));
  });

  it('takes the same ends from given replicates', () => {
    const { resamples, observed, acceleration, biasCorrection, ends } = fixture.bcaFormula;
    const given: BootstrapDistribution = {
      value: observed,
      n: 50,
      replicates: Float64Array.from({ length: resamples }, (_, i) => i + 1),
      standardError: resamples / Math.sqrt(12),
      biasCorrection,
      acceleration,
    };
    for (const [p, end] of ends) {
      expect(lowerBound(given, p!)).toBeCloseTo(end!, 6);
      expect(upperBound(given, 1 - p!)).toBeCloseTo(end!, 6);
      expect(lowerBound(given, p!, { method: 'percentile' })).toBeCloseTo(1 + (resamples - 1) * p!, 6);
    }
  });
});

describe('bounds', () => {
  const random = createRandom('bounds');
  const values = Array.from({ length: 120 }, () => 0.2 + gaussian(random));

  it('the same seed gives the same interval, another seed nearly the same', () => {
    expect(bootstrapMean(values, { seed: 'a' })).toEqual(bootstrapMean(values, { seed: 'a' }));
    const [a, b] = [bootstrapMean(values, { seed: 'a' }), bootstrapMean(values, { seed: 'b' })];
    expect(a.low).not.toBe(b.low);
    expect(Math.abs(a.low - b.low)).toBeLessThan(a.standardError / 5);
  });

  it('widen without a break as alpha falls past what the resamples resolve', () => {
    const resamples = resampleMean(values);
    const alphas = [0.2, 0.05, 0.01, 0.002, 0.001, 0.0009, 1e-4, 1e-6, 1e-12, 1e-77];
    const bounds = alphas.map((alpha) => lowerBound(resamples, alpha));
    expect(bounds.every((bound, i) => i === 0 || bound < bounds[i - 1]!)).toBe(true);
    const gap = lowerBound(resamples, 0.001) - lowerBound(resamples, 0.00099);
    expect(gap).toBeLessThan(resamples.standardError / 50);
    expect(lowerBound(resamples, 0)).toBe(-Infinity);
    // Of 120 normal values the tail is nearly normal: within 10% of the normal bound at one in a million.
    const normal = mean(values) + normalPpf(1e-6) * (standardDeviation(values) / Math.sqrt(120));
    expect(Math.abs((lowerBound(resamples, 1e-6) - mean(values)) / (normal - mean(values)) - 1)).toBeLessThan(0.1);
  });

  it('mirror when the data are mirrored', () => {
    const mirrored = resampleMean(values.map((x) => -x));
    expect(upperBound(mirrored, 0.05)).toBeCloseTo(-lowerBound(resampleMean(values), 0.05), 9);
  });

  it('are wider for a small sample when asked', () => {
    const resamples = resampleMean(values.slice(0, 12));
    // The 5% quantile of Student's t with 11 degrees of freedom is -1.795885.
    const level = normalCdf(-1.795885 * Math.sqrt(12 / 11));
    expect(lowerBound(resamples, 0.05, { smallSample: true })).toBeCloseTo(lowerBound(resamples, level), 5);
  });

  it('collapse to the value when every group is the same', () => {
    const { low, high, value } = bootstrapMean([0.1, 0.1, 0.1, 0.1]);
    expect(low).toBeCloseTo(value, 12);
    expect(high).toBeCloseTo(value, 12);
  });

  it('refuse what has no answer', () => {
    expect(() => bootstrapMean([1])).toThrow(RangeError);
    expect(() => bootstrapMean(values, { resamples: 5 })).toThrow(RangeError);
    expect(() => lowerBound(resampleMean(values), 1)).toThrow(RangeError);
  });
});

describe('statistics over groups', () => {
  it('a weighted mean gives the same resamples as the mean', () => {
    const values = fixture.bootstrap[0]!.values;
    const weighted = resampleStatistic(values.length, (weights) => {
      return weights.reduce((sum, weight, i) => sum + weight * values[i]!, 0) / values.length;
    });
    // Left-out groups change the divisor, so only the jackknife differs; the draws are the same.
    const plain = resampleMean(values);
    expect(weighted.biasCorrection).toBeCloseTo(plain.biasCorrection, 6);
    expect(weighted.replicates[500]).toBeCloseTo(plain.replicates[500]!, 12);
  });

  it('a statistic stuck at its boundary falls back to percentiles', () => {
    const values = [1, 2, 3, 4, 5, 6];
    const result = bootstrapStatistic(6, (weights) => Math.max(...values.map((x, i) => (weights[i]! > 0 ? x : 0))));
    expect(result.high).toBe(6);
    expect(result.low).toBeLessThan(6);
  });

  it('averages pairs within a group before anything else', () => {
    const groups = [
      { groupId: 'a', candidate: [1, 1, 1, 1], baseline: [0] },
      { groupId: 'b', candidate: [0], baseline: [1, 1] },
    ];
    expect(bootstrapPairedDifference(groups).value).toBe(0);
  });
});
