import { describe, expect, it } from 'vitest';
import { readFixture } from '../../fixtures/fixtures.ts';
import { createRandom } from '../random.ts';
import { type Distribution, distribution, draw, type SamplingSettings, tokenLogprob, topLogprobs } from './logits.ts';

interface Processors {
  history: number[];
  logits: number[];
  cases: { settings: Record<string, number>; probabilities: number[] }[];
}

const { history, logits: values, cases } = await readFixture<Processors>('processors.json');
const logits = Float32Array.from(values);
const plain: SamplingSettings = { temperature: 1, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1 };

const tokensOf = ({ weights }: Distribution): number[] => [...weights].flatMap((w, token) => (w > 0 ? [token] : []));

describe('distribution', () => {
  it.each(cases.map((c) => [JSON.stringify(c.settings), c] as const))('leaves what Transformers leaves: %s', (_, c) => {
    const s = c.settings;
    const got = distribution(logits, history, {
      temperature: s['temperature'] ?? 1,
      topP: s['top_p'] ?? 1,
      topK: s['top_k'] ?? 0,
      minP: s['min_p'] ?? 0,
      repetitionPenalty: s['repetition_penalty'] ?? 1,
    });
    got.weights.forEach((w, token) => expect(w / got.mass).toBeCloseTo(c.probabilities[token]!, 5));
    expect(tokensOf(got)).toEqual(c.probabilities.flatMap((p, token) => (p > 0 ? [token] : [])));
  });

  it('takes the likeliest token at temperature 0, after the penalty', () => {
    const best = values.indexOf(Math.max(...values));
    expect(tokensOf(distribution(logits, [], { ...plain, temperature: 0 }))).toEqual([best]);
    const punished = distribution(logits, [best], { ...plain, temperature: 0, repetitionPenalty: 50 });
    expect(tokensOf(punished)).not.toEqual([best]);
  });

  it('keeps one token whatever the cut', () => {
    expect(tokensOf(distribution(logits, [], { ...plain, topP: 1e-9 }))).toHaveLength(1);
    expect(tokensOf(distribution(logits, [], { ...plain, minP: 1 }))).toHaveLength(1);
    expect(tokensOf(distribution(new Float32Array(4), [], { ...plain, topP: 0.5 }))).toEqual([0, 1]);
  });
});

describe('draw', () => {
  it('draws in proportion', () => {
    const random = createRandom(3);
    const from = distribution(logits, [], { ...plain, temperature: 2 });
    const counts = new Float64Array(logits.length);
    const n = 40_000;
    for (let i = 0; i < n; i++) counts[draw(from, random)]! += 1;
    // Pearson's statistic has 23 degrees of freedom; 50 is exceeded once in a thousand times, and the seed is fixed.
    let statistic = 0;
    from.weights.forEach((weight, token) => {
      const expected = (n * weight) / from.mass;
      statistic += (counts[token]! - expected) ** 2 / expected;
    });
    expect(statistic).toBeLessThan(50);
  });
});

describe('log-probabilities', () => {
  it('are those of the model, likeliest first', () => {
    const all = topLogprobs(logits, logits.length);
    expect(all.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0)).toBeCloseTo(1, 9);
    expect(all.map(({ logprob }) => logprob)).toEqual(all.map(({ logprob }) => logprob).toSorted((a, b) => b - a));
    expect(topLogprobs(logits, 3)).toEqual(all.slice(0, 3));
    expect(tokenLogprob(logits, all[2]!.token)).toBe(all[2]!.logprob);
  });
});
