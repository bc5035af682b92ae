import { describe, expect, it } from 'vitest';
import fixture from '../fixtures/drift.json' with { type: 'json' };
import { cusum, pageHinkley, startCusum, startPageHinkley } from './drift.ts';
import { createRandom, gaussian } from './random.ts';
import { mean } from './stats.ts';

describe('Page-Hinkley', () => {
  it.each(fixture.cases)('raises its alarm where river does: $alarm', ({ values, alarm }) => {
    const { delta, threshold, minObservations } = fixture;
    let state = startPageHinkley({ delta, threshold, minObservations });
    const at = values.findIndex((value) => {
      state = pageHinkley(state, value);
      return state.drifted !== null;
    });
    expect(at).toBe(alarm ?? -1);
  });

  it('survives storage as JSON between observations', () => {
    const { values } = fixture.cases[0]!;
    let kept = startPageHinkley({ delta: 0.1, threshold: 20 });
    let stored = kept;
    for (const value of values) {
      kept = pageHinkley(kept, value);
      stored = pageHinkley(JSON.parse(JSON.stringify(stored)), value);
    }
    expect(stored).toEqual(kept);
    expect(kept.drifted).toBe('up');
  });
});

/** Observations until the alarm, for streams shifted by so many standard deviations. */
function runLengths(shift: number, runs: number): number[] {
  const random = createRandom(`shift ${shift}`);
  return Array.from({ length: runs }, () => {
    let state = startCusum({ mean: 3, standardDeviation: 2 });
    while (state.drifted === null) state = cusum(state, 3 + 2 * (shift + gaussian(random)));
    return state.n;
  });
}

describe('CUSUM', () => {
  // Siegmund's approximation (1985, p. 27) of the mean run length with slack k, limit h, shift d towards the alarm:
  // (exp(-2 (d - k) b) + 2 (d - k) b - 1) / (2 (d - k)^2) with b = h + 1.166. At k = 0.25, h = 10 it gives 2,074 per
  // side without a shift, so 1,037 for both sides, and 36.7 at half a deviation. Run lengths without a shift are
  // nearly exponential: the mean of 200 has a standard error of 1,037 / sqrt(200) = 73, and four of them are allowed.
  it('has one false alarm in about a thousand observations', () => {
    expect(Math.abs(mean(runLengths(0, 200)) - 1037)).toBeLessThan(4 * 73);
  });

  // At half a deviation the run length's own deviation is about 19: 300 runs give a standard error of 1.1.
  it('finds a shift of half a deviation after about 37 observations, on its side', () => {
    expect(Math.abs(mean(runLengths(-0.5, 300)) - 36.7)).toBeLessThan(4 * 1.1);
    let state = startCusum({ mean: 0, standardDeviation: 1 });
    for (let i = 0; i < 60; i++) state = cusum(state, -1);
    expect(state.drifted).toBe('down');
  });

  it('refuses a baseline without spread', () => {
    expect(() => startCusum({ mean: 0, standardDeviation: 0 })).toThrow(RangeError);
  });
});
