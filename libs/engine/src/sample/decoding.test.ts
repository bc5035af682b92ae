/** Decoding with wide matrices, many rows and 4-bit weights: what the tiny models of the other tests do not reach. */
import { expect, test } from 'vitest';
import { initLora } from '../adapters/lora.ts';
import { initWeights } from '../models/initWeights.ts';
import { createScorer } from '../train/scorer.ts';
import { LORA_TARGETS, type BaseModel, type LoraWeights, type ModelConfig } from '../types.ts';
import { dequantizeModel, quantizeModel } from '../weights/quantize.ts';
import type { Generation } from './request.ts';
import { createSampler, type Sampler } from './sampler.ts';

/** Sums of 1 152 products: longer than any stretch that the runtime's kernels sum in one go. */
const config: ModelConfig = {
  hiddenSize: 128,
  intermediateSize: 1152,
  numLayers: 2,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 32,
  vocabSize: 300,
  maxPositions: 128,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  tieWordEmbeddings: true,
};
const model: BaseModel = { config, weights: initWeights(config, 7, 0.08) };
const packed = quantizeModel(model, { head: true });
const packedWithMins = quantizeModel(model, { mins: true });

function adapter(r: number, seed: number): LoraWeights {
  const lora = initLora(config, { r, alpha: 2 * r, targets: [...LORA_TARGETS], dropout: 0 }, seed);
  for (const { a, b } of lora.tensors.values()) b.data.forEach((_, i) => (b.data[i] = a.data[i % a.data.length]! / 4));
  return lora;
}

function samplerOf(of: BaseModel): Sampler {
  const sampler = createSampler({ model: of, threads: 2, eosTokenIds: [] });
  sampler.addAdapter('small', adapter(2, 3));
  sampler.addAdapter('large', adapter(5, 4));
  return sampler;
}

const request = (i: number): { prompt: number[]; maxTokens: number; seed: number; adapter?: string } => ({
  prompt: Array.from({ length: 1 + (i % 7) }, (_, t) => (i * 31 + t * 17) % 300),
  maxTokens: 6 + (i % 3),
  seed: i,
  ...(i % 3 > 0 && { adapter: i % 3 === 1 ? 'small' : 'large' }),
});

test.each([
  ['fp32', model],
  ['4 bits', packed],
  ['4 bits with minima', packedWithMins],
])('%s: the same bits alone and among 1, 2, 15, 16 and 18 others', async (_name, of) => {
  const sampler = samplerOf(of);
  const alone: Generation[] = [];
  for (let i = 0; i < 3; i++) alone.push(await sampler.generate(request(i)));
  for (const company of [1, 2, 15, 16, 18]) {
    const all = await Promise.all(Array.from({ length: 3 + company }, (_, i) => sampler.generate(request(i))));
    expect(all.slice(0, 3)).toEqual(alone);
  }
  await sampler.close();
});

test.each([
  ['without minima', packed],
  ['with minima', packedWithMins],
])(
  '4 bits %s: log-probabilities are those of the same values as floats, but for activations in 8 bits',
  async (_name, of) => {
    const sampler = samplerOf(of);
    const answers = await Promise.all(Array.from({ length: 12 }, (_, i) => sampler.generate(request(i))));
    await sampler.close();
    const scorer = await createScorer({ model: dequantizeModel(of) });
    const rough = await createScorer({ model });
    let ours = 0;
    let rounding = 0;
    let count = 0;
    for (const [i, answer] of answers.entries()) {
      const { prompt, adapter: name } = request(i);
      const lora = name === undefined ? undefined : adapter(name === 'small' ? 2 : 5, name === 'small' ? 3 : 4);
      const text = [{ ids: [...prompt, ...answer.tokens], from: prompt.length }];
      const [exact] = await scorer.logProbs(text, lora);
      const [unrounded] = await rough.logProbs(text, lora);
      answer.logprobs.forEach((logprob, t) => {
        ours += (logprob - exact![t]!) ** 2;
        rounding += (unrounded![t]! - exact![t]!) ** 2;
        count++;
      });
    }
    await scorer.close();
    await rough.close();
    // Measured: 0.02 in the mean square, where the rounding of the weights itself moves them by 0.29.
    expect(Math.sqrt(ours / count)).toBeLessThan(0.03);
    expect(ours).toBeLessThan(rounding / 100);
  },
);

test('4 bits: an adapter added later serves beside requests without one, which keep their bits; rounding by the sampler is the same', async () => {
  const sampler = samplerOf(packed);
  const before = await sampler.generate(request(0));
  const both = await Promise.all([sampler.generate(request(0)), sampler.generate(request(1))]);
  const after = await sampler.generate(request(0));
  expect(both[0]).toEqual(before);
  expect(after).toEqual(before);
  const rounding = createSampler({ model, quantize: { head: true }, threads: 2, eosTokenIds: [] });
  expect(await rounding.generate(request(0))).toEqual(before);
  await rounding.close();
  expect(both[1].logprobs).not.toEqual((await sampler.generate({ ...request(1), adapter: 'large' })).logprobs);
  await sampler.close();
});
