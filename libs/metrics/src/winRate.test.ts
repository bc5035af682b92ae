import { describe, expect, it } from 'vitest';
import fixture from '../fixtures/statistics.json' with { type: 'json' };
import { lowerBound } from './bootstrap.ts';
import { createRandom, integerBelow, uniform } from './random.ts';
import type { Comparison, ComparisonGroup } from './winRate.ts';
import {
  lengthControlledWinRate,
  lengthControlledWinRateInterval,
  lengthMatchedWinRate,
  resampleLengthControlledWinRate,
  winRate,
  winRateInterval,
} from './winRate.ts';

function swapped(groups: readonly ComparisonGroup[]): ComparisonGroup[] {
  return groups.map(({ groupId, comparisons }) => ({
    groupId,
    comparisons: comparisons.map(({ outcome, candidateLength, baselineLength }) => ({
      outcome: 1 - outcome,
      candidateLength: baselineLength,
      baselineLength: candidateLength,
    })),
  }));
}

function at(candidateLength: number, baselineLength: number, outcome: number): Comparison {
  return { outcome, candidateLength, baselineLength };
}

/** Groups in which the longer answer always wins and quality plays no part; the candidate is longer most times. */
function lengthOnly(count: number, seed: string): ComparisonGroup[] {
  const random = createRandom(seed);
  return Array.from({ length: count }, (_, g) => ({
    groupId: `g${g}`,
    comparisons: Array.from({ length: 4 }, () => {
      const candidateLength = 12 + integerBelow(random, 12);
      const baselineLength = 8 + integerBelow(random, 12);
      const odds = (candidateLength - baselineLength) / 2;
      return { outcome: uniform(random) < 1 / (1 + Math.exp(-odds)) ? 1 : 0, candidateLength, baselineLength };
    }),
  }));
}

describe('win rate', () => {
  it('weighs groups and not comparisons, ties one half', () => {
    const answer = { candidateLength: 5, baselineLength: 5 };
    const groups = [
      { groupId: 'a', comparisons: [1, 1, 1, 1, 1].map((outcome) => ({ outcome, ...answer })) },
      { groupId: 'b', comparisons: [{ outcome: 0, ...answer }] },
      { groupId: 'c', comparisons: [{ outcome: 0.5, ...answer }] },
    ];
    expect(winRate(groups)).toBeCloseTo(0.5, 12);
    expect(winRateInterval(groups, { resamples: 500 }).n).toBe(3);
    expect(() => winRate([{ groupId: 'empty', comparisons: [] }])).toThrow('empty');
  });
});

describe('length-controlled win rate', () => {
  const { groups, winRate: expected, lengthEffect } = fixture.logistic;

  it('equals the regression of statsmodels', () => {
    const result = lengthControlledWinRate(groups);
    expect(result.value).toBeCloseTo(expected, 8);
    expect(result.lengthEffect).toBeCloseTo(lengthEffect, 7);
  });

  it('is one minus itself when the sides are swapped', () => {
    expect(lengthControlledWinRate(swapped(groups)).value).toBeCloseTo(1 - expected, 8);
  });

  it('equals the plain win rate without length differences, but for the prior', () => {
    const level = groups.map(({ groupId, comparisons }) => ({
      groupId,
      comparisons: comparisons.map(({ outcome }) => ({ outcome, candidateLength: 9, baselineLength: 9 })),
    }));
    const plain = winRate(level);
    // Ties of weight 0.1 / 3 at term 0 join 40 groups; those at -1 and 1 move only the slope and the intercept alike.
    expect(Math.abs(lengthControlledWinRate(level).value - plain)).toBeLessThan((0.1 * Math.abs(plain - 0.5)) / 40);
  });

  it('takes a win by length for what it is', () => {
    const groupsByLength = lengthOnly(150, 'length');
    expect(winRate(groupsByLength)).toBeGreaterThan(0.75);
    const { value, low, high } = lengthControlledWinRateInterval(groupsByLength, { resamples: 2000 });
    expect(low).toBeLessThan(0.5);
    expect(high).toBeGreaterThan(0.5);
    expect(Math.abs(value - 0.5)).toBeLessThan(0.1);
  });

  it('stays finite when one side wins every time', () => {
    const sweep = lengthOnly(100, 'sweep').map(({ groupId, comparisons }) => ({
      groupId,
      comparisons: comparisons.map((comparison) => ({ ...comparison, outcome: 1 })),
    }));
    const resamples = resampleLengthControlledWinRate(sweep, { resamples: 1000 });
    expect(resamples.value).toBeGreaterThan(0.95);
    expect(lowerBound(resamples, 0.05)).toBeGreaterThan(0.9);
    expect(lowerBound(resamples, 0.05)).toBeLessThanOrEqual(resamples.value);
  });

  it('one Newton step gives the interval that refitting gives', () => {
    const some = lengthOnly(60, 'refit');
    const oneStep = lengthControlledWinRateInterval(some, { resamples: 1000 });
    const random = createRandom('refit');
    const refits = Array.from({ length: 300 }, () => {
      const resample = some.map(() => some[integerBelow(random, some.length)]!);
      return lengthControlledWinRate(resample).value;
    }).toSorted((a, b) => a - b);
    // 300 refits place a 10% quantile within 0.1 standard errors or so (4 of its own: sqrt(.09/300)/.175 = 0.1).
    const { standardError } = oneStep;
    const quick = lengthControlledWinRateInterval(some, { resamples: 1000, method: 'percentile', alpha: 0.2 });
    expect(Math.abs(quick.low - refits[30]!)).toBeLessThan(0.45 * standardError);
    expect(Math.abs(quick.high - refits[269]!)).toBeLessThan(0.45 * standardError);
  });

  it('refuses outcomes and lengths that are none', () => {
    for (const comparison of [at(1, 1, 2), at(Number.NaN, 1, 1)]) {
      expect(() => lengthControlledWinRate([{ groupId: 'x', comparisons: [comparison] }])).toThrow(RangeError);
    }
    expect(() => lengthControlledWinRate([])).toThrow(RangeError);
  });
});

describe('length-matched win rate', () => {
  it('keeps only answers of nearly one length', () => {
    const groups = [
      { groupId: 'a', comparisons: [at(10, 11, 1), at(10, 12, 0), at(105, 100, 0)] },
      { groupId: 'b', comparisons: [at(10, 10, 1)] },
      { groupId: 'c', comparisons: [at(40, 10, 0)] },
    ];
    expect(lengthMatchedWinRate(groups)).toEqual({ value: 0.75, comparisons: 3, groups: 2 });
    expect(lengthMatchedWinRate(groups.slice(2))).toEqual({ value: undefined, comparisons: 0, groups: 0 });
  });

  it('is even when length alone wins', () => {
    const { value } = lengthMatchedWinRate(lengthOnly(400, 'matched'), { relative: 0, absolute: 0 });
    expect(Math.abs(value! - 0.5)).toBeLessThan(0.15); // about 100 matched pairs: three standard errors
  });
});
