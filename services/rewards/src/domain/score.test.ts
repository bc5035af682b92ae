import { feedbackInput } from '@tuneloop/contracts/rewards/http';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { rulesOf } from './rules.ts';
import { judge } from './score.ts';

const { dimensionWeights } = rulesOf(undefined);
const target = { response_id: '0190f5a2-7b3c-7def-8123-456789abcdef' };

function scoreOf(said: object): number | null {
  return judge(feedbackInput.parse({ ...target, ...said }), dimensionWeights).score;
}

describe('judge', () => {
  it.each([
    [{ kind: 'like', value: 'like' }, 0.5],
    [{ kind: 'like', value: 'dislike' }, -0.5],
    [{ kind: 'like', value: 'neutral' }, 0],
    [{ kind: 'like', value: 'neutral', quality: 3 }, 0],
    [{ kind: 'like', value: 'neutral', quality: 5 }, 0.4],
    [{ kind: 'like', value: 'like', quality: 2 }, 0.3],
    [{ kind: 'stars', value: 1 }, -1],
    [{ kind: 'stars', value: 2 }, -0.5],
    [{ kind: 'stars', value: 3 }, 0],
    [{ kind: 'stars', value: 5 }, 1],
    [{ kind: 'dimensions', dimensions: { accuracy: 1, brand: 1, compliance: 1 } }, 1],
    [{ kind: 'dimensions', dimensions: { accuracy: 0.4, brand: -0.2, compliance: 0 } }, 0.14],
    // What was not rated neither helps nor harms.
    [{ kind: 'dimensions', dimensions: { brand: 0.5 } }, 0.5],
    [{ kind: 'ab', value: 'a', other_response_id: target.response_id }, null],
    [{ kind: 'correction', correction: 'x' }, null],
    [{ kind: 'report', reason: 'spam', score: -1 }, -1],
  ])('%j is %s', (said, score) => {
    expect(scoreOf(said)).toBe(score);
  });

  it('names a dimension that the project does not weigh, and those that it does', () => {
    expect(() => scoreOf({ kind: 'dimensions', dimensions: { toString: 1 } })).toThrow(
      /dimensions\.toString .* accuracy, brand, compliance/,
    );
  });

  it('stays within [-1, 1] for any weights and values', () => {
    const within = fc.double({ min: -1, max: 1, noNaN: true });
    const weight = fc.double({ min: 1e-3, max: 1e3, noNaN: true });
    fc.assert(
      fc.property(fc.dictionary(fc.string({ minLength: 1 }), fc.tuple(within, weight), { minKeys: 1 }), (drawn) => {
        const pick = (i: 0 | 1) => Object.fromEntries(Object.entries(drawn).map(([name, pair]) => [name, pair[i]]));
        const input = { kind: 'dimensions' as const, choice: 0, synthetic: false, ...target, dimensions: pick(0) };
        const { score } = judge(input, pick(1));
        expect(Math.abs(score ?? 2)).toBeLessThanOrEqual(1);
      }),
    );
  });
});
