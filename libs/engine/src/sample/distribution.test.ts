/** What is drawn, against probabilities worked out here from their definitions. Seeds are fixed: nothing is left to chance. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createRandom } from '../random.ts';
import { addToken } from './constraint/vocabulary.ts';
import { distribution, draw, type SamplingSettings } from './logits.ts';

const PLAIN: SamplingSettings = { temperature: 1, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1 };
const LOGITS = Float32Array.of(2.1, -1, 0.3, 1.7, -3, 0, 1.2, 0.9, -0.4, 2, -6, 0.31);
const DRAWS = 40_000;

function softmax(logits: readonly number[]): number[] {
  const max = Math.max(...logits);
  const weights = logits.map((x) => Math.exp(x - max));
  const total = weights.reduce((a, b) => a + b);
  return weights.map((w) => w / total);
}

/** Pearson's statistic in units of a normal deviate (Wilson and Hilferty's cube root); beyond 4 is one in 30 000. */
function deviation(counts: readonly number[], probabilities: readonly number[]): number {
  const total = counts.reduce((a, b) => a + b);
  let statistic = 0;
  let cells = 0;
  counts.forEach((count, i) => {
    const expected = total * probabilities[i]!;
    if (expected === 0) {
      expect(count).toBe(0);
      return;
    }
    statistic += (count - expected) ** 2 / expected;
    cells++;
  });
  const freedom = cells - 1;
  if (freedom === 0) return 0;
  const spread = 2 / (9 * freedom);
  return (Math.cbrt(statistic / freedom) - (1 - spread)) / Math.sqrt(spread);
}

function counted(draws: Iterable<number>, cells: number): number[] {
  const counts = Array.from({ length: cells }, () => 0);
  for (const cell of draws) counts[cell]!++;
  return counts;
}

/** The tokens that stay, likeliest first, given the softmax at the temperature. */
const cut =
  (keep: (sorted: number[]) => number) =>
  (p: number[]): number[] => {
    const order = p.map((_, i) => i).toSorted((a, b) => p[b]! - p[a]!);
    const kept = new Set(order.slice(0, keep(order.map((i) => p[i]!))));
    const mass = [...kept].reduce((sum, i) => sum + p[i]!, 0);
    return p.map((x, i) => (kept.has(i) ? x / mass : 0));
  };

const cases: [string, Partial<SamplingSettings>, (logits: number[]) => number[]][] = [
  ['softmax', {}, softmax],
  ['temperature', { temperature: 0.6 }, (l) => softmax(l.map((x) => x / 0.6))],
  ['hot', { temperature: 3 }, (l) => softmax(l.map((x) => x / 3))],
  ['top-k', { topK: 4 }, (l) => cut(() => 4)(softmax(l))],
  [
    'top-p',
    { topP: 0.8 },
    (l) =>
      cut((sorted) => {
        let mass = 0;
        return sorted.findIndex((p) => (mass += p) >= 0.8) + 1;
      })(softmax(l)),
  ],
  ['min-p', { minP: 0.2 }, (l) => cut((sorted) => sorted.filter((p) => p >= 0.2 * sorted[0]!).length)(softmax(l))],
  [
    'repetition penalty',
    { repetitionPenalty: 1.5 },
    (l) => softmax(l.map((x, i) => ([0, 4].includes(i) ? (x > 0 ? x / 1.5 : x * 1.5) : x))),
  ],
];

describe('what is drawn', () => {
  it.each(cases)('%s', (_, settings, expected) => {
    const all = distribution(LOGITS, [0, 4, 4], { ...PLAIN, ...settings });
    const random = createRandom(11);
    const draws = Array.from({ length: DRAWS }, () => draw(all, random));
    expect(deviation(counted(draws, LOGITS.length), expected([...LOGITS]))).toBeLessThan(4);
  });

  it('is of the allowed tokens only, in their proportions', () => {
    const allowed = new Uint32Array(1);
    for (const token of [1, 4, 6, 11]) addToken(allowed, token);
    const expected = softmax([...LOGITS].map((x, i) => ([1, 4, 6, 11].includes(i) ? x : -Infinity)));
    const random = createRandom(5);
    const all = distribution(LOGITS, [], PLAIN, allowed);
    const draws = Array.from({ length: DRAWS }, () => draw(all, random));
    expect(deviation(counted(draws, LOGITS.length), expected)).toBeLessThan(4);
    expect(draw(distribution(LOGITS, [], { ...PLAIN, temperature: 0 }, allowed), random)).toBe(6);
  });

  it('differs between neighbouring seeds as between any, at the first token and at the next', () => {
    const p = softmax([...LOGITS]);
    const all = distribution(LOGITS, [], PLAIN);
    const cells = LOGITS.length;
    const pairs = Array.from({ length: DRAWS }, (_, seed) => {
      const random = createRandom(seed);
      return draw(all, random) * cells + draw(all, random);
    });
    const firsts = pairs.map((pair) => Math.floor(pair / cells));
    expect(deviation(counted(firsts, cells), p)).toBeLessThan(4);
    // Likely tokens only: the statistic needs a few draws in each cell.
    const likely = [0, 3, 6, 7, 9];
    const joint = likely.flatMap((a) => likely.map((b) => [a * cells + b, p[a]! * p[b]!] as const));
    const mass = joint.reduce((sum, [, q]) => sum + q, 0);
    const counts = joint.map(([cell]) => pairs.filter((pair) => pair === cell).length);
    expect(
      deviation(
        counts,
        joint.map(([, q]) => q / mass),
      ),
    ).toBeLessThan(4);
    const neighbours = firsts.slice(1).map((token, i) => firsts[i]! * cells + token);
    expect(
      deviation(
        joint.map(([cell]) => neighbours.filter((pair) => pair === cell).length),
        joint.map(([, q]) => q / mass),
      ),
    ).toBeLessThan(4);
  });

  it('would be seen to be off by a hundredth', () => {
    const p = softmax([...LOGITS]);
    const random = createRandom(11);
    const all = distribution(
      LOGITS.map((x, i) => x + (i === 0 ? 0.06 : 0)),
      [],
      PLAIN,
    );
    const draws = Array.from({ length: DRAWS }, () => draw(all, random));
    expect(deviation(counted(draws, LOGITS.length), p)).toBeGreaterThan(4);
  });
});

describe('any logits and settings', () => {
  it('leave weights that are the softmax, or nothing', () => {
    const logits = fc.array(fc.float({ min: -30, max: 30, noNaN: true }), { minLength: 1, maxLength: 40 });
    const settings = fc.record({
      temperature: fc.constantFrom(0.05, 0.7, 1, 5),
      topP: fc.constantFrom(0.001, 0.5, 0.95, 1),
      topK: fc.nat(45),
      minP: fc.constantFrom(0, 0.1, 1),
      repetitionPenalty: fc.constantFrom(1, 1.3),
    });
    fc.assert(
      fc.property(logits, settings, fc.array(fc.nat(39)), fc.nat(), (row, chosen, seen, seed) => {
        const known = seen.filter((token) => token < row.length);
        const { weights, mass } = distribution(Float32Array.from(row), known, chosen);
        const adjusted = Array.from(Float32Array.from(row), (x, i) =>
          known.includes(i) ? Math.fround(x > 0 ? x / chosen.repetitionPenalty : x * chosen.repetitionPenalty) : x,
        );
        const max = Math.max(...adjusted);
        weights.forEach((w, i) => {
          if (w !== 0) expect(w).toBeCloseTo(Math.exp((adjusted[i]! - max) / chosen.temperature), 9);
        });
        // A token that weighs more is never cut before one that weighs less.
        const whole = adjusted.map((x) => Math.exp((x - max) / chosen.temperature));
        const least = Math.min(...whole.filter((_, i) => weights[i] !== 0));
        whole.forEach((w, i) => {
          if (w > least) expect(weights[i]).toBeGreaterThan(0);
        });
        expect(mass).toBeGreaterThanOrEqual(1);
        expect(weights[draw({ weights, mass }, createRandom(seed))]).toBeGreaterThan(0);
      }),
      { numRuns: 300 },
    );
  });
});
