/** A base in 4 bits against PyTorch on the same values as floats (fixtures/make_quantized.py), and against itself as floats. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { fixturePath, readFixture, relativeError } from '../../fixtures/fixtures.ts';
import { mergeLora } from '../adapters/lora.ts';
import { readPeftFolder } from '../adapters/peft.ts';
import { assemble, pickWeights } from '../train/batch.ts';
import { createExecutor, type ExecutorWishes } from '../train/createExecutor.ts';
import { createScorer } from '../train/scorer.ts';
import { createTrainer } from '../train/trainer.ts';
import type { BaseModel, LoraWeights, QuantizedTensor } from '../types.ts';
import { loadModelFolder, writeModelFolder } from '../weights/loadModel.ts';
import { dequantizeModel, quantizeModel } from '../weights/quantize.ts';
import { readSafetensors } from '../weights/safetensors.ts';

const TOLERANCE = 1e-4;

interface Fixture {
  readonly loss: number;
  readonly prompts: number[][];
  readonly greedy: number[][];
  readonly matrices: Record<string, { dims: [number, number]; codes: string; scales: number[]; mins?: number[] }>;
}

let fixture: Fixture;
/** Projections of layer 0 without minima, those of layer 1 and the head with them. */
let model: BaseModel;
let lora: LoraWeights;

beforeAll(async () => {
  fixture = await readFixture<Fixture>('quantized.json');
  const { config, weights } = await loadModelFolder(fixturePath('tiny-untied'));
  const quantized = new Map<string, QuantizedTensor>();
  for (const [name, { dims, codes, scales, mins }] of Object.entries(fixture.matrices)) {
    weights.delete(name);
    quantized.set(name, {
      bits: 4,
      dims,
      blockSize: 32,
      codes: new Uint8Array(Buffer.from(codes, 'base64')),
      scales: Float32Array.from(scales),
      ...(mins && { mins: Float32Array.from(mins) }),
    });
  }
  model = { config, weights, quantized };
  lora = await readPeftFolder(fixturePath('adapter'));
});

async function gradientPass(
  of: BaseModel,
  wishes: ExecutorWishes = {},
): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
  const inputs =
    await readFixture<Record<'input_ids' | 'attention_mask' | 'labels', number[][]>>('tiny-untied/inputs.json');
  const rows = inputs.input_ids.map((padded, r) => {
    const ids = padded.slice(
      0,
      inputs.attention_mask[r]!.reduce((a, b) => a + b, 0),
    );
    const picks = ids.flatMap((label, t) =>
      inputs.labels[r]![t] === -100 ? [] : [{ column: t - 1, label, weight: 1, slot: 0 }],
    );
    return { segments: [{ ids }], picks };
  });
  const pass = assemble(rows, 1);
  const executor = await createExecutor({
    model: of,
    lora,
    loss: { kind: 'sft' },
    rowLength: 64,
    passTokens: 64,
    threads: 1,
    ...wishes,
  });
  const { loss } = await executor.gradientPass({ ...pass.feeds, ...pickWeights(pass, 1, 1 / pass.picks.length) });
  const gradients = new Map(executor.parameters.map((p, i) => [p.name, executor.gradients[i]!.slice()]));
  await executor.close();
  return { loss, gradients };
}

test.each<ExecutorWishes>([
  { executor: 'whole-graph' },
  { executor: 'layer-wise', activations: 'recompute' },
  { executor: 'layer-wise', activations: 'save' },
])('%o: loss and LoRA gradients are those of PyTorch on the same values as floats', async (wishes) => {
  const { loss, gradients } = await gradientPass(model, wishes);
  expect(loss).toBeCloseTo(fixture.loss, 4);
  const expected = await readSafetensors(fixturePath('quantized_grads.safetensors'));
  expect(gradients.size).toBe(expected.size);
  for (const [name, { data }] of expected) {
    const ours = name.replace('base_model.model.', '').replace(/\.weight$/, '');
    expect(relativeError(gradients.get(ours) ?? [], data), ours).toBeLessThan(TOLERANCE);
  }
});

test('as floats again the model gives the same losses and gradients', async () => {
  const packed = await gradientPass(model);
  const floats = await gradientPass(dequantizeModel(model));
  expect(packed.loss).toBeCloseTo(floats.loss, 6);
  for (const [name, gradient] of packed.gradients) {
    expect(relativeError(gradient, floats.gradients.get(name) ?? [])).toBeLessThan(1e-6);
  }
});

test('blocks of 16, a tied head with codes of its own, codes at an odd place of their buffer', async () => {
  const tied = await loadModelFolder(fixturePath('tiny-qwen3'));
  const small = quantizeModel(tied, { blockSize: 16, mins: true, head: true });
  const shifted = new Map(
    [...small.quantized!].map(([name, tensor]) => {
      const buffer = new Uint8Array(tensor.codes.length + 1);
      buffer.set(tensor.codes, 1);
      return [name, { ...tensor, codes: buffer.subarray(1) }];
    }),
  );
  const requests = [{ ids: [1, 2, 3, 4, 5, 6] }, { ids: [9, 8, 7] }];
  const logProbs = async (of: BaseModel): Promise<Float32Array[]> => {
    const scorer = await createScorer({ model: of });
    const values = await scorer.logProbs(requests);
    await scorer.close();
    return values;
  };
  const expected = await logProbs(dequantizeModel(small));
  for (const quantized of [small.quantized!, shifted]) {
    const actual = await logProbs({ ...small, quantized });
    actual.forEach((values, i) => expect(relativeError(values, expected[i]!)).toBeLessThan(1e-6));
  }
  // And the head's codes are used: the tied embedding would give other numbers.
  const floatHead = await logProbs({
    ...small,
    quantized: new Map([...small.quantized!].filter(([n]) => n !== 'lm_head.weight')),
  });
  expect(relativeError(floatHead[0]!, expected[0]!)).toBeGreaterThan(1e-4);
});

test('an adapter merged into a 4-bit base, and the base written to a folder, are what the codes stand for', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'quantized-'));
  try {
    const expected = dequantizeModel(model);
    await writeModelFolder(folder, model);
    expect((await loadModelFolder(folder)).weights).toEqual(expected.weights);
    const merged = mergeLora(model, lora);
    expect([...merged.quantized!.keys()]).toEqual(['lm_head.weight']);
    expect(dequantizeModel(merged).weights).toEqual(mergeLora(expected, lora).weights);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('training every weight of a 4-bit model is refused; its adapter trains and resumes only on the same codes', async () => {
  const data = [{ ids: [1, 2, 3, 4, 5], lossWeights: [0, 1, 1, 1, 1] }];
  const hyper = { epochs: 4, batchSize: 1, maxLength: 8, learningRate: 1e-2, seed: 1 };
  await expect(createTrainer({ task: 'sft', model, data, hyper })).rejects.toMatchObject({
    code: 'engine.train.quantized_base',
  });
  const states: Uint8Array[] = [];
  const checkpoint = { everySteps: 1, save: async (state: Uint8Array): Promise<void> => void states.push(state) };
  const trainer = await createTrainer({ task: 'sft', model, lora, data, hyper, checkpoint });
  const { firstLoss, lastLoss } = await trainer.run();
  expect(lastLoss).toBeLessThan(firstLoss);
  const [name, tensor] = [...model.quantized!][0]!;
  const codes = tensor.codes.slice();
  codes[5]! ^= 1;
  const other = { ...model, quantized: new Map(model.quantized).set(name, { ...tensor, codes }) };
  await expect(
    createTrainer({ task: 'sft', model: other, lora, data, hyper, resumeFrom: states[0]! }),
  ).rejects.toMatchObject({ code: 'engine.train.bad_state' });
});
