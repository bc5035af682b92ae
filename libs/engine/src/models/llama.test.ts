import { describe, expect, test } from 'vitest';
import { initLora } from '../adapters/lora.ts';
import { differenceError, randomFloats, uniform } from '../graph/gradientCheck.ts';
import { type Batch, assemble, type Pick, pickWeights } from '../train/batch.ts';
import { createExecutor } from '../train/createExecutor.ts';
import { createScorer } from '../train/scorer.ts';
import { LORA_TARGETS, type LoraWeights, type ModelConfig, type WeightMap } from '../types.ts';
import { initWeights } from './initWeights.ts';
import { weightShapes } from './llama.ts';
import { inverseFrequencies } from './rope.ts';

/** Everything the family has at once: grouped heads, biases, QK-norm, an untied head. */
const config: ModelConfig = {
  hiddenSize: 6,
  intermediateSize: 7,
  numLayers: 2,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 4,
  vocabSize: 9,
  maxPositions: 16,
  rmsNormEps: 1e-5,
  ropeTheta: 100,
  tieWordEmbeddings: false,
  attentionBias: true,
  qkNorm: true,
};

function randomWeights(of: ModelConfig, seed: number): WeightMap {
  const random = uniform(seed);
  const entries = [...weightShapes(of)].map(([name, dims]) => {
    const data = randomFloats(
      dims.reduce((a, b) => a * b, 1),
      random,
      0.6,
    );
    return [name, { dims, data: name.endsWith('norm.weight') ? data.map((x) => 1 + x / 2) : data }] as const;
  });
  return new Map(entries);
}

const pick = (column: number, label: number, weight: number): Pick => ({ column, label, weight, slot: 0 });

/** Two rows of unequal length, one of them with two texts; `weights` sum to 1. */
function feeds(): Batch['feeds'] {
  const batch = assemble([
    { segments: [{ ids: [1, 2, 3] }, { ids: [4, 5] }], picks: [pick(0, 2, 0.2), pick(1, 3, 0.3), pick(3, 5, 0.1)] },
    { segments: [{ ids: [6, 7, 8, 0] }], picks: [pick(2, 0, 0.4)] },
  ]);
  return { ...batch.feeds, ...pickWeights(batch, 1, 1) };
}

async function worstGradientError(lora?: LoraWeights): Promise<number> {
  const executor = await createExecutor({
    model: { config, weights: randomWeights(config, 3) },
    loss: { kind: 'sft' },
    rowLength: 8,
    passTokens: 16,
    threads: 1,
    ...(lora === undefined ? {} : { lora }),
  });
  const inputs = feeds();
  await executor.gradientPass(inputs);
  let worst = 0;
  for (const [i, parameter] of executor.parameters.entries()) {
    const gradient = executor.gradients[i]!.slice();
    const evaluate = async (): Promise<number> => (await executor.lossPass(inputs)).loss;
    worst = Math.max(worst, await differenceError(parameter.data, gradient, evaluate));
  }
  await executor.close();
  return worst;
}

describe('gradient of the loss against central differences', () => {
  test('every weight', async () => {
    expect(await worstGradientError()).toBeLessThan(5e-3);
  });

  test('every adapter tensor, with non-zero B', async () => {
    const lora = initLora(config, { r: 2, alpha: 3, targets: [...LORA_TARGETS], dropout: 0 }, 1);
    const random = uniform(8);
    for (const { b } of lora.tensors.values()) b.data.set(randomFloats(b.data.length, random, 0.4));
    expect(await worstGradientError(lora)).toBeLessThan(5e-3);
  });
});

test('scaling by 0 gives the base, and a fresh adapter does too', async () => {
  const scorer = await createScorer({ model: { config, weights: randomWeights(config, 3) } });
  const lora = initLora(config, { r: 2, alpha: 3, targets: ['q_proj', 'down_proj'], dropout: 0 }, 1);
  const requests = [{ ids: [1, 2, 3, 4] }, { ids: [5, 6], from: 1 }, { ids: [7] }];
  const base = await scorer.logProbs(requests);
  expect(base.map((x) => x.length)).toEqual([3, 1, 0]);
  expect(await scorer.logProbs(requests, lora)).toEqual(base);
  for (const { b } of lora.tensors.values()) b.data.fill(0.5);
  expect(await scorer.logProbs(requests, lora, { scale: 0 })).toEqual(base);
  expect(await scorer.logProbs(requests, lora)).not.toEqual(base);
  await scorer.close();
});

test('log-probabilities do not depend on what else is in the batch', async () => {
  const model = { config, weights: randomWeights(config, 3) };
  const scorer = await createScorer({ model });
  const long = { ids: [1, 2, 3, 4, 5, 6, 7, 8] };
  const short = { ids: [4, 4, 2] };
  const together = await scorer.logProbs([long, short]);
  const alone = await scorer.logProbs([short]);
  await scorer.close();
  expect(together[1]?.length).toBe(2);
  together[1]?.forEach((value, i) => expect(value).toBeCloseTo(alone[0]![i]!, 5));
});

test('rotary scalings', () => {
  const plain = inverseFrequencies(config);
  const linear = inverseFrequencies({ ...config, ropeScaling: { type: 'linear', factor: 4 } });
  expect([...linear]).toEqual([...plain].map((f) => f / 4));
  const scaling = { type: 'llama3' as const, factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 16 };
  const llama3 = inverseFrequencies({ ...config, headDim: 8, ropeScaling: scaling });
  const unscaled = inverseFrequencies({ ...config, headDim: 8 });
  // 16 positions turn by 16 f / 2 pi: 2.5, 0.8, 0.25 and 0.08 times, so the first is blended and the others stretched.
  expect(llama3[0]).toBeCloseTo(unscaled[0]! * (0.51549 + 0.48451 / 8), 4);
  expect(Array.from(llama3.subarray(1))).toEqual(Array.from(unscaled.subarray(1), (f) => f / 8));
});

test('fresh weights: same seed, same bytes; norms one, biases zero', () => {
  const weights = initWeights(config, 4);
  expect(initWeights(config, 4)).toEqual(weights);
  expect(initWeights(config, 5)).not.toEqual(weights);
  expect([...weights.keys()]).toEqual([...weightShapes(config).keys()]);
  expect(new Set(weights.get('model.norm.weight')?.data)).toEqual(new Set([1]));
  expect(new Set(weights.get('model.layers.1.self_attn.k_proj.bias')?.data)).toEqual(new Set([0]));
});
