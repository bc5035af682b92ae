import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { pairChanged, pairRatings, type RatedPair, type Rating } from './pairs.ts';
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

describe('pairChanged', () => {
  it('agrees with a look at the whole prompt, whenever it gives an answer', () => {
    let answered = 0;
    const drawn = fc.record({
      score: fc.constantFrom(-1, -0.5, 0.5, 1),
      rater: fc.constantFrom('ann', 'bob', 'cat', 'dan', 'eve', 'fay', 'gus', 'hal'),
    });
    fc.assert(
      fc.property(
        fc.array(drawn, { minLength: 10, maxLength: 40 }),
        fc.array(drawn, { maxLength: 3 }),
        fc.array(fc.nat(), { maxLength: 3 }),
        (stored, added, removed) => {
          const before = stored.map((fields, i) => rating(`f${String(i).padStart(2, '0')}`, fields.score, fields));
          const gone = new Set(removed.map((i) => before[i % Math.max(1, before.length)]?.feedbackId));
          const more = added.map((fields, i) => rating(`n${i}`, fields.score, fields));
          const after = [...before.filter(({ feedbackId }) => !gone.has(feedbackId)), ...more];
          const present = pairRatings(before, rules);
          const concerned = new Set([
            ...present.map(({ chosen }) => chosen.rater),
            ...more.map(({ rater }) => rater),
            ...before.filter(({ feedbackId }) => gone.has(feedbackId)).map(({ rater }) => rater),
          ]);
          const seen = ({ rater }: Rating) => concerned.has(rater);
          const view = { before: before.filter(seen), after: after.filter(seen), present: new Set(present.map(name)) };
          const pairs = pairChanged(view, rules, name);
          if (pairs === null) return;
          answered++;
          expect(pairs.map(name)).toEqual(pairRatings(after, rules).map(name));
        },
      ),
    );
    expect(answered).toBeGreaterThan(50);
  });

  it('asks for the whole prompt when a full one loses a pair, or has other pairs than it should', () => {
    const raters = ['ann', 'bob', 'cat', 'dan', 'eve'];
    const all = raters.flatMap((rater) => [rating(`${rater}+`, 1, { rater }), rating(`${rater}-`, -1, { rater })]);
    const before = all.filter(({ rater }) => rater !== 'eve');
    const present = new Set(pairRatings(all, rules).map(name));
    const after = before.filter(({ rater }) => rater !== 'ann');
    expect(pairChanged({ before, after, present }, rules, name)).toBeNull();
    expect(pairChanged({ before, after: before, present: new Set(['x>y']) }, rules, name)).toBeNull();
    expect(pairChanged({ before, after: all, present }, rules, name)).toHaveLength(4);
  });
});

function name({ chosen, rejected }: RatedPair): string {
  return `${chosen.feedbackId}>${rejected.feedbackId}`;
}

function hash({ feedbackId }: Rating, seed: number): number {
  return (Number(feedbackId.slice(1)) * 2654435761 + seed) % 1009;
}
