import { describe, expect, it } from 'vitest';
import type { ConfidenceSequence } from './confidenceSequence.ts';
import { armDifference, currentInterval, observe, startConfidenceSequence } from './confidenceSequence.ts';
import { createRandom, uniform } from './random.ts';
import { mean } from './stats.ts';

/** A 50/50 experiment with thumbs up at the given rates, watched after every user. */
function watch(seed: string, users: number, candidateRate: number, baselineRate: number): ConfidenceSequence[] {
  const random = createRandom(seed);
  let state = startConfidenceSequence();
  return Array.from({ length: users }, () => {
    const toCandidate = uniform(random) < 0.5;
    const outcome = uniform(random) < (toCandidate ? candidateRate : baselineRate) ? 1 : 0;
    state = observe(state, armDifference(outcome, toCandidate));
    return state;
  });
}

describe('confidence sequence', () => {
  // Looked at after each of 1,000 users, a 95% interval for one fixed time would miss in about half of all runs or
  // more; this one may ever miss in 5%. Of 200 runs at most 10 are then expected; 10 + 4 sqrt(200 .05 .95) = 22.
  it('is missed by the truth in at most 5% of runs, looking after every user', () => {
    let missed = 0;
    for (let run = 0; run < 200; run++) {
      const last = currentInterval(watch(`null ${run}`, 1000, 0.6, 0.6).at(-1)!);
      if (last.low > 0 || last.high < 0) missed++;
    }
    expect(missed).toBeLessThanOrEqual(22);
  });

  it('finds real harm, and never widens', () => {
    const states = watch('harm', 2000, 0.3, 0.7).map(currentInterval);
    expect(states.at(-1)!.high).toBeLessThan(0);
    expect(states.at(-1)!.low).toBeLessThan(-0.4);
    expect(
      states.every(({ low, high }, i) => i === 0 || (low >= states[i - 1]!.low && high <= states[i - 1]!.high)),
    ).toBe(true);
  });

  // Hoeffding's fixed-time radius after n observations in [-1, 1] is sqrt(2 log(2 / alpha) / n). A constant stream
  // has no variance, so the empirical-Bernstein radius must fall far below it.
  it('adapts to small variance', () => {
    let state = startConfidenceSequence();
    for (let i = 0; i < 2000; i++) state = observe(state, 0.1);
    const { low, high } = currentInterval(state);
    expect(low).toBeLessThan(0.1);
    expect(high).toBeGreaterThan(0.1);
    expect((high - low) / 2).toBeLessThan(Math.sqrt((2 * Math.log(40)) / 2000) / 3);
  });

  it('survives storage as JSON', () => {
    const [state] = watch('stored', 1, 0.5, 0.5);
    const revived: ConfidenceSequence = JSON.parse(JSON.stringify(state));
    expect(observe(revived, 0.3)).toEqual(observe(state!, 0.3));
  });

  it('knows nothing at the start and refuses what lies outside', () => {
    expect(currentInterval(startConfidenceSequence())).toEqual({ value: 0, low: -1, high: 1, n: 0 });
    expect(() => observe(startConfidenceSequence(), 1.5)).toThrow(RangeError);
    expect(() => startConfidenceSequence({ low: 1, high: 1 })).toThrow(RangeError);
  });
});

describe('arm difference', () => {
  it('has the difference of the arms as its mean, at any share', () => {
    const random = createRandom('arms');
    const draws = Array.from({ length: 20_000 }, () => {
      const toCandidate = uniform(random) < 0.2;
      return armDifference(uniform(random) < (toCandidate ? 0.9 : 0.4) ? 1 : 0, toCandidate, 0.2);
    });
    // Each draw lies within 2.5 of zero, so six standard errors are below 6 * 2.5 / sqrt(20,000) = 0.106.
    expect(Math.abs(mean(draws) - 0.5)).toBeLessThan(0.106);
    expect(() => armDifference(2, true)).toThrow(RangeError);
  });
});
