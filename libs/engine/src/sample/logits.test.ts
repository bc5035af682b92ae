import { describe, expect, it } from 'vitest';
import { readFixture } from '../../fixtures/fixtures.ts';
import { createRandom } from '../random.ts';
import { candidates, draw, type SamplingSettings, tokenLogprob, topLogprobs } from './logits.ts';

interface Processors {
  history: number[];
  logits: number[];
  cases: { settings: Record<string, number>; probabilities: number[] }[];
}

const { history, logits: values, cases } = await readFixture<Processors>('processors.json');
const logits = Float32Array.from(values);
const plain: SamplingSettings = { temperature: 1, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1 };

describe('candidates', () => {
  it.each(cases.map((c) => [JSON.stringify(c.settings), c] as const))('leaves what Transformers leaves: %s', (_, c) => {
    const s = c.settings;
    const got = candidates(logits, history, {
      temperature: s['temperature'] ?? 1,
      topP: s['top_p'] ?? 1,
      topK: s['top_k'] ?? 0,
      minP: s['min_p'] ?? 0,
      repetitionPenalty: s['repetition_penalty'] ?? 1,
    });
    const dense = new Float64Array(logits.length);
    got.tokens.forEach((token, i) => (dense[token] = got.probabilities[i]!));
    dense.forEach((p, token) => expect(p).toBeCloseTo(c.probabilities[token]!, 5));
    expect(got.tokens).toHaveLength(c.probabilities.filter((p) => p > 0).length);
  });

  it('takes the likeliest token at temperature 0, after the penalty', () => {
    const best = values.indexOf(Math.max(...values));
    expect([...candidates(logits, [], { ...plain, temperature: 0 }).tokens]).toEqual([best]);
    const punished = candidates(logits, [best], { ...plain, temperature: 0, repetitionPenalty: 50 });
    expect([...punished.tokens]).not.toEqual([best]);
  });

  it('keeps one token whatever the cut', () => {
    expect(candidates(logits, [], { ...plain, topP: 1e-9 }).tokens).toHaveLength(1);
    expect(candidates(logits, [], { ...plain, minP: 1 }).tokens).toHaveLength(1);
    expect(candidates(new Float32Array(4), [], { ...plain, topP: 0.5 }).tokens).toHaveLength(2);
  });
});

describe('draw', () => {
  it('draws in proportion', () => {
    const random = createRandom(3);
    const from = candidates(logits, [], { ...plain, temperature: 2 });
    const counts = new Float64Array(logits.length);
    const n = 40_000;
    for (let i = 0; i < n; i++) counts[draw(from, random)]! += 1;
    // Pearson's statistic has 23 degrees of freedom; 50 is exceeded once in a thousand times, and the seed is fixed.
    let statistic = 0;
    from.tokens.forEach((token, i) => {
      const expected = n * from.probabilities[i]!;
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
