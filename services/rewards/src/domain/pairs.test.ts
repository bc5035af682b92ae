import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { pairRatings, type RatedPair, type Rating } from './pairs.ts';
import { rulesOf } from './rules.ts';

const rules = rulesOf(undefined);

function rating(id: string, score: number, fields: Partial<Rating> = {}): Rating {
  return {
    feedbackId: id,
    responseId: `response of ${id}`,
    promptKey: 'p',
    kind: 'stars',
    score,
    rater: 'ann',
    synthetic: false,
    createdAt: new Date(0),
    ...fields,
  };
}

const ids = (ratings: Rating[]) => pairRatings(ratings, rules).map(name);

describe('pairRatings', () => {
  it('matches the best with the worst, and uses each answer once before any twice', () => {
    const ratings = [rating('a', 1), rating('b', 0.5), rating('c', 0), rating('y', -0.5), rating('z', -1)];
    expect(ids(ratings)).toEqual(['a>z', 'b>y', 'a>y', 'b>z']);
  });

  it('takes the widest margins of several raters first', () => {
    const ratings = ['ann', 'bob', 'cat', 'dan', 'eve'].flatMap((rater, i) => [
      rating(`${rater}+`, i === 2 ? 1 : 0.5, { rater }),
      rating(`${rater}-`, i === 2 ? -1 : -0.5, { rater }),
    ]);
    expect(ids(ratings)).toEqual(['cat+>cat-', 'ann+>ann-', 'bob+>bob-', 'dan+>dan-']);
  });

  it('holds for any set of ratings', () => {
    const anyRating = fc.record({
      score: fc.constantFrom(-1, -0.5, 0, 0.5, 1),
      rater: fc.constantFrom('ann', 'bob'),
      kind: fc.constantFrom('stars' as const, 'thumbs' as const),
      promptKey: fc.constantFrom('p', 'q'),
    });
    fc.assert(
      fc.property(fc.array(anyRating, { maxLength: 40 }), fc.integer(), (drawn, seed) => {
        const ratings = drawn.map((fields, i) => rating(`f${i}`, fields.score, fields));
        const pairs = pairRatings(ratings, rules);
        const again = pairRatings(
          ratings.toSorted((a, b) => hash(a, seed) - hash(b, seed)),
          rules,
        );
        expect(again.map(name).toSorted()).toEqual(pairs.map(name).toSorted());
        expect(new Set(pairs.map(name)).size).toBe(pairs.length);
        for (const { chosen, rejected, margin } of pairs) {
          expect([chosen.rater, chosen.kind, chosen.promptKey]).toEqual([
            rejected.rater,
            rejected.kind,
            rejected.promptKey,
          ]);
          expect(chosen.score).toBeGreaterThanOrEqual(0.5);
          expect(rejected.score).toBeLessThanOrEqual(-0.5);
          expect(margin).toBe(chosen.score - rejected.score);
        }
        for (const [prompt, ofPrompt] of Map.groupBy(ratings, ({ promptKey }) => promptKey)) {
          const groups = [...Map.groupBy(ofPrompt, ({ rater, kind }) => `${rater} ${kind}`).values()];
          const possible = groups.reduce(
            (sum, group) =>
              sum +
              group.filter(({ score }) => score >= 0.5).length * group.filter(({ score }) => score <= -0.5).length,
            0,
          );
          expect(pairs.filter(({ promptKey }) => promptKey === prompt)).toHaveLength(Math.min(4, possible));
        }
      }),
    );
  });
});

function name({ chosen, rejected }: RatedPair): string {
  return `${chosen.feedbackId}>${rejected.feedbackId}`;
}

function hash({ feedbackId }: Rating, seed: number): number {
  return (Number(feedbackId.slice(1)) * 2654435761 + seed) % 1009;
}
