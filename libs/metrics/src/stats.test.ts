import { describe, expect, it } from 'vitest';
import fixture from '../fixtures/statistics.json' with { type: 'json' };
import { createRandom, gaussian, integerBelow, uniform } from './random.ts';
import { sampleRatioMismatch } from './sampleRatio.ts';
import {
  chiSquareSurvival,
  mean,
  normalCdf,
  normalPpf,
  quantile,
  standardDeviation,
  studentTCdf,
  studentTPpf,
  variance,
} from './stats.ts';

/** Far tails are held to their digits and not to their smallness. */
function relativeError(actual: number, expected: number): number {
  return Math.abs(actual - expected) / Math.abs(expected);
}

describe('distributions against scipy', () => {
  it('normal distribution function, into the far tail', () => {
    for (const [z, p] of fixture.normalCdf) expect(relativeError(normalCdf(z!), p!)).toBeLessThan(1e-12);
  });

  it('normal quantile, into the far tail', () => {
    for (const [p, z] of fixture.normalPpf) expect(normalPpf(p!)).toBeCloseTo(z!, 11);
    expect(normalPpf(0)).toBe(-Infinity);
    expect(normalPpf(1)).toBe(Infinity);
    expect(() => normalPpf(-0.1)).toThrow(RangeError);
  });

  it('Student t quantile', () => {
    for (const [p, df, t] of fixture.studentTPpf) expect(relativeError(studentTPpf(p!, df!), t!)).toBeLessThan(1e-9);
    expect(studentTCdf(studentTPpf(0.2, 5), 5)).toBeCloseTo(0.2, 10);
  });

  it('chi-square tail', () => {
    for (const [x, df, p] of fixture.chiSquareSurvival)
      expect(relativeError(chiSquareSurvival(x!, df!), p!)).toBeLessThan(1e-11);
    expect(chiSquareSurvival(0, 3)).toBe(1);
  });
});

describe('descriptive statistics against numpy', () => {
  it('quantiles, variance and deviation', () => {
    for (const [q, value] of fixture.quantiles) expect(quantile(fixture.sample, q!)).toBeCloseTo(value!, 12);
    expect(variance(fixture.sample)).toBeCloseTo(fixture.variance, 12);
    expect(standardDeviation(fixture.sample)).toBeCloseTo(Math.sqrt(fixture.variance), 12);
  });

  it('refuses to make a number out of nothing', () => {
    expect(() => mean([])).toThrow(RangeError);
    expect(() => variance([1])).toThrow(RangeError);
    expect(() => quantile([], 0.5)).toThrow(RangeError);
  });
});

describe('sample ratio', () => {
  it.each(fixture.sampleRatio)('$observed against $shares as scipy', ({ observed, shares, chiSquare, pValue }) => {
    const result = sampleRatioMismatch(observed, shares);
    expect(result.chiSquare).toBeCloseTo(chiSquare, 9);
    expect(relativeError(result.pValue, pValue)).toBeLessThan(1e-10);
    expect(result.mismatch).toBe(pValue < 0.001);
  });

  it('says nothing before the first user', () => {
    expect(sampleRatioMismatch([0, 0], [1, 1])).toEqual({ chiSquare: 0, pValue: 1, mismatch: false });
    expect(() => sampleRatioMismatch([3], [1])).toThrow(RangeError);
  });
});

describe('random', () => {
  it('repeats a stream from its seed and gives another from another', () => {
    const [a, b, c] = [createRandom(1), createRandom(1), createRandom(2)];
    const draws = Array.from({ length: 20 }, () => [a(), b(), c()] as const);
    expect(draws.every(([x, y]) => x === y)).toBe(true);
    expect(draws.some(([x, , z]) => x === z)).toBe(false);
  });

  it('is even over its range: chi-square of 64 cells below its 0.999999 quantile', () => {
    const random = createRandom('cells');
    const counts = Array.from({ length: 64 }, () => 0);
    for (let i = 0; i < 64_000; i++) counts[integerBelow(random, 64)]! += 1;
    expect(
      sampleRatioMismatch(
        counts,
        counts.map(() => 1),
      ).pValue,
    ).toBeGreaterThan(1e-6);
  });

  it('has the moments of a normal variable, within six standard errors', () => {
    const random = createRandom('normal');
    const draws = Array.from({ length: 20_000 }, () => gaussian(random));
    expect(Math.abs(mean(draws))).toBeLessThan(6 / Math.sqrt(20_000));
    expect(Math.abs(variance(draws) - 1)).toBeLessThan(6 * Math.sqrt(2 / 20_000));
    expect(uniform(random)).toBeLessThan(1);
  });
});
