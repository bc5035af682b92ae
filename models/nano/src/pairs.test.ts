import fc from 'fast-check';
import { expect, test } from 'vitest';
import { choosePairs } from './pairs.ts';
import { createRandom } from './random.ts';

const ratings = fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 10 });

test('pairs are distinct, liked over disliked, as many as there can be up to the limit', () => {
  fc.assert(
    fc.property(fc.nat(), ratings, fc.integer({ min: 1, max: 12 }), (seed, stars, limit) => {
      const rated = stars.map((value, i) => ({ answer: { i, stars: value }, stars: value }));
      const pairs = choosePairs(createRandom(seed), rated, limit);
      const possible = stars.filter((s) => s >= 4).length * stars.filter((s) => s <= 2).length;
      expect(pairs.length).toBe(Math.min(limit, possible));
      expect(new Set(pairs.map(({ chosen, rejected }) => `${chosen.i} ${rejected.i}`)).size).toBe(pairs.length);
      for (const { chosen, rejected } of pairs) expect([chosen.stars >= 4, rejected.stars <= 2]).toEqual([true, true]);
    }),
  );
});

test('the best goes with the worst', () => {
  const rated = [4, 2, 1, 5].map((stars) => ({ answer: stars, stars }));
  expect(choosePairs(createRandom(1), rated, 2)).toEqual([
    { chosen: 5, rejected: 1 },
    { chosen: 4, rejected: 2 },
  ]);
});
