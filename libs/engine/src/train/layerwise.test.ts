/** The layer-wise executor against the whole graph, over random small models and batches. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { relativeError } from '../../fixtures/fixtures.ts';
import { initLora } from '../adapters/lora.ts';
import { floatTensor, type Feeds } from '../graph/session.ts';
import { randomFloats, uniform } from '../graph/gradientCheck.ts';
import { initWeights } from '../models/initWeights.ts';
import { INPUT, type LossSpec } from '../models/losses.ts';
import { createRandom } from '../random.ts';
import {
  type BaseModel,
  type ExecutorEstimate,
  type ExecutorKind,
  LORA_TARGETS,
  type LoraWeights,
  type ActivationPolicy,
  type ModelConfig,
  type SftTrainerOptions,
  type TrainProgress,
  type TrainResult,
} from '../types.ts';
import { assemble, pickWeights, type Row } from './batch.ts';
import { createExecutor } from './createExecutor.ts';
import type { Executor, ExecutorOptions, PassResult } from './executor.ts';
import { estimateTraining } from './estimateTraining.ts';
import { estimateExecutors } from './memory.ts';
import { createTrainer } from './trainer.ts';

const TOLERANCE = 1e-5;

interface Shape {
  readonly layers: number;
  readonly group: number;
  readonly kvHeads: number;
  readonly tied: boolean;
  readonly attentionBias: boolean;
  readonly qkNorm: boolean;
  /** 0: full training. */
  readonly rank: number;
  /** Lowest layer with an adapter, modulo the layers. */
  readonly lowest: number;
  readonly dpo: boolean;
  readonly lengths: readonly (readonly number[])[];
  readonly chunks: number;
  readonly seed: number;
}

const shapes: fc.Arbitrary<Shape> = fc.record({
  layers: fc.integer({ min: 1, max: 3 }),
  group: fc.integer({ min: 1, max: 3 }),
  kvHeads: fc.integer({ min: 1, max: 2 }),
  tied: fc.boolean(),
  attentionBias: fc.boolean(),
  qkNorm: fc.boolean(),
  rank: fc.integer({ min: 0, max: 3 }),
  lowest: fc.nat({ max: 5 }),
  dpo: fc.boolean(),
  lengths: fc.array(fc.array(fc.integer({ min: 2, max: 6 }), { minLength: 1, maxLength: 3 }), {
    minLength: 1,
    maxLength: 3,
  }),
  chunks: fc.integer({ min: 1, max: 2 }),
  seed: fc.integer({ min: 1, max: 1_000_000 }),
});

function configOf(shape: Shape): ModelConfig {
  return {
    hiddenSize: 12,
    intermediateSize: 10,
    numLayers: shape.layers,
    numHeads: shape.kvHeads * shape.group,
    numKvHeads: shape.kvHeads,
    headDim: 4,
    vocabSize: 17,
    maxPositions: 32,
    rmsNormEps: 1e-5,
    ropeTheta: 100,
    tieWordEmbeddings: shape.tied,
    attentionBias: shape.attentionBias,
    qkNorm: shape.qkNorm,
  };
}

/** Adapters of differing modules from layer to layer, B not zero. */
function adapterOf(config: ModelConfig, shape: Shape): LoraWeights | undefined {
  if (shape.rank === 0) return undefined;
  const lora = initLora(config, { r: shape.rank, alpha: 3, targets: [...LORA_TARGETS], dropout: 0 }, shape.seed);
  const random = uniform(shape.seed);
  for (const { b } of lora.tensors.values()) b.data.set(randomFloats(b.data.length, random, 0.4));
  const lowest = shape.lowest % config.numLayers;
  const kept = [...lora.tensors].filter(
    ([name]) => Number(name.split('.')[2]) >= lowest && !(name.includes('layers.1') && name.endsWith('up_proj')),
  );
  return { config: lora.config, tensors: new Map(kept) };
}

/** Two texts of each row are a pair under DPO: slots 2p and 2p + 1 in the order of the texts. */
function feedsOf(shape: Shape, chunks: number): Feeds {
  const random = uniform(shape.seed + 1);
  const id = (): number => Math.floor(random() * 17);
  let text = 0;
  const rows = shape.lengths.map((lengths): Row => {
    let start = 0;
    const picks = lengths.flatMap((length) => {
      const slot = shape.dpo ? text++ : 0;
      const from = start;
      start += length;
      return Array.from({ length: length - 1 }, (_, t) => ({ column: from + t, label: id(), weight: random(), slot }));
    });
    return { segments: lengths.map((length) => ({ ids: Array.from({ length }, id) })), picks };
  });
  const batch = assemble(rows, chunks);
  if (!shape.dpo) return { ...batch.feeds, ...pickWeights(batch, 1, 0.1) };
  const pairs = Math.ceil(text / 2);
  return {
    ...batch.feeds,
    ...pickWeights(batch, 2 * pairs, 1),
    [INPUT.reference]: floatTensor(randomFloats(pairs, random), [pairs, 1]),
    [INPUT.pairWeights]: floatTensor(new Float32Array(pairs).fill(1 / pairs), [pairs, 1]),
  };
}

interface Outcome extends PassResult {
  readonly names: readonly string[];
  readonly gradients: readonly Float32Array[];
  readonly evaluated: number;
}

async function outcome(executor: Executor, feeds: Feeds): Promise<Outcome> {
  const first = await executor.gradientPass(feeds);
  const gradients = executor.gradients.map((g) => g.slice());
  const evaluated = (await executor.lossPass(feeds)).loss;
  // A second pass must not see what the first left behind.
  const again = await executor.gradientPass(feeds);
  expect(again).toEqual(first);
  expect(executor.gradients).toEqual(gradients);
  await executor.close();
  return { ...first, evaluated, gradients, names: executor.parameters.map((p) => p.name) };
}

const RUNS = 12;

test('layer by layer: the loss, margins and gradients of the whole graph', async () => {
  await fc.assert(
    fc.asyncProperty(shapes, async (shape) => {
      const config = configOf(shape);
      const model: BaseModel = { config, weights: initWeights(config, shape.seed, 0.4) };
      const lora = adapterOf(config, shape);
      const loss: LossSpec = shape.dpo
        ? { kind: 'dpo', beta: 0.3, labelSmoothing: 0.1, nllFactor: 0.02 }
        : { kind: 'sft' };
      const options: ExecutorOptions = {
        model,
        loss,
        rowLength: 18,
        // 2^23 elements of logits make a part.
        passTokens: shape.chunks === 1 ? 54 : (2 * 2 ** 23) / 17,
        threads: 1,
        ...(lora === undefined ? {} : { lora }),
      };
      const make = (executor: ExecutorKind, activations?: ActivationPolicy): Promise<Executor> =>
        createExecutor({ ...options, executor, ...(activations === undefined ? {} : { activations }) });
      const whole = await make('whole-graph');
      const feeds = feedsOf(shape, whole.chunks);
      const expected = await outcome(whole, feeds);
      for (const activations of ['recompute', 'save'] as const) {
        const found = await outcome(await make('layer-wise', activations), feeds);
        expect(found.names).toEqual(expected.names);
        expect(found.loss).toBeCloseTo(expected.loss, 5);
        expect(found.evaluated).toBeCloseTo(expected.evaluated, 5);
        expect(relativeError(found.margins ?? [0], expected.margins ?? [0])).toBeLessThan(TOLERANCE);
        found.gradients.forEach((gradient, i) => {
          const error = relativeError(gradient, expected.gradients[i]!);
          expect({ name: found.names[i], close: error < TOLERANCE, error }).toMatchObject({ close: true });
        });
      }
    }),
    { numRuns: RUNS, seed: 20261121 },
  );
});

describe('training through it', () => {
  const config: ModelConfig = {
    ...configOf({ layers: 2, group: 2, kvHeads: 1, tied: true, attentionBias: false, qkNorm: false } as Shape),
  };
  const random = createRandom(3);
  const data = Array.from({ length: 12 }, () => {
    const ids = Array.from({ length: 3 + Math.floor(random() * 9) }, () => Math.floor(random() * 17));
    return { ids, lossWeights: ids.map(() => 1) };
  });
  const options = (more: Partial<SftTrainerOptions> = {}): SftTrainerOptions => ({
    task: 'sft',
    model: { config, weights: initWeights(config, 1, 0.3) },
    lora: initLora(config, { r: 2, alpha: 4, targets: [...LORA_TARGETS], dropout: 0 }, 5),
    data,
    evaluation: { data: data.slice(0, 4), everySteps: 2 },
    hyper: { epochs: 2, batchSize: 4, maxLength: 12, learningRate: 0.01, seed: 9 },
    executor: 'layer-wise',
    ...more,
  });
  const train = async (more: Partial<SftTrainerOptions> = {}): Promise<TrainResult> =>
    (await createTrainer(options(more))).run();
  const bytes = (result: TrainResult): Buffer =>
    Buffer.concat(
      [...(result.lora?.tensors.values() ?? [])].flatMap(({ a, b }) =>
        [a.data, b.data].map((d) => Buffer.from(d.buffer, d.byteOffset, d.byteLength)),
      ),
    );

  test('the losses of the whole graph at every step, evaluation too; named in the manifest', async () => {
    const seen: TrainProgress[][] = [];
    for (const executor of ['whole-graph', 'layer-wise'] as const) {
      const progress: TrainProgress[] = [];
      const { manifest, estimate } = await train({ executor, onProgress: (p) => progress.push(p) });
      const { model, lora, hyper } = options();
      const before = await estimateTraining({ model, hyper, executor, ...(lora && { lora }) });
      expect(before.executor).toBe(executor);
      expect(before.flopPerPass).toBe(estimate.flopPerPass);
      expect(manifest.executor).toBe(executor);
      expect(manifest.executorReason).toContain(executor);
      seen.push(progress);
    }
    const [whole, layerwise] = seen as [TrainProgress[], TrainProgress[]];
    expect(layerwise.length).toBe(whole.length);
    layerwise.forEach((p, i) => {
      expect(p.loss).toBeCloseTo(whole[i]!.loss, 4);
      expect(p.gradNorm).toBeCloseTo(whole[i]!.gradNorm, 3);
      expect(p.evalLoss ?? 0).toBeCloseTo(whole[i]!.evalLoss ?? 0, 4);
    });
  });

  test('the same bytes again, and when resumed; another executor is refused', async () => {
    const states: Uint8Array[] = [];
    const save = async (state: Uint8Array): Promise<void> => void states.push(state);
    const whole = bytes(await train({ checkpoint: { everySteps: 1, save } }));
    expect(bytes(await train()).equals(whole)).toBe(true);
    expect(bytes(await train({ resumeFrom: states[2]! })).equals(whole)).toBe(true);
    // Left open, a resumed run goes on as it began.
    const open = await train({ executor: 'auto', resumeFrom: states[2]! });
    expect(open.manifest.executor).toBe('layer-wise');
    expect(bytes(open).equals(whole)).toBe(true);
    for (const other of [{ executor: 'whole-graph' }, { activations: 'recompute' }] as const) {
      const refused = createTrainer(options({ ...other, resumeFrom: states[2]! }));
      await expect(refused).rejects.toMatchObject({ code: 'engine.train.bad_state' });
    }
  });

  test('the budget decides, says why, and refuses what cannot fit', async () => {
    const wide = { ...config, numLayers: 6, hiddenSize: 64, intermediateSize: 512 };
    const model: BaseModel = { config: wide, weights: initWeights(wide, 1) };
    const adapter = initLora(wide, { r: 2, alpha: 4, targets: [...LORA_TARGETS], dropout: 0 }, 5);
    const passes: ExecutorOptions = {
      model,
      lora: adapter,
      loss: { kind: 'sft' },
      rowLength: 512,
      passTokens: 512 * 64,
      threads: 1,
    };
    const [whole, saving, recomputing] = estimateExecutors(passes) as [
      ExecutorEstimate,
      ExecutorEstimate,
      ExecutorEstimate,
    ];
    expect(whole.memoryBytes).toBeGreaterThan(saving.memoryBytes);
    expect(saving.memoryBytes).toBeGreaterThan(recomputing.memoryBytes);
    expect(recomputing.flopPerPass).toBeGreaterThan(saving.flopPerPass);
    const cases = [
      [whole.memoryBytes * 1.1, 'whole-graph', undefined],
      [(whole.memoryBytes + saving.memoryBytes) / 2, 'layer-wise', 'save'],
      [(saving.memoryBytes + recomputing.memoryBytes) / 2, 'layer-wise', 'recompute'],
    ] as const;
    for (const [memoryBudgetBytes, executor, activations] of cases) {
      const made = await createExecutor({ ...passes, memoryBudgetBytes });
      expect([made.choice.executor, made.choice.activations]).toEqual([executor, activations]);
      expect(made.choice.reason).toContain('budget');
      expect(made.choice.secondsPerPass).toBeGreaterThan(0);
      await made.close();
    }
    const refused = createExecutor({ ...passes, memoryBudgetBytes: recomputing.memoryBytes / 2 });
    await expect(refused).rejects.toMatchObject({ code: 'engine.train.over_budget' });
  });
});
