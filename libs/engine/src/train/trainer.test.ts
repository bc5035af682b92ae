import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { initLora } from '../adapters/lora.ts';
import { initWeights } from '../models/initWeights.ts';
import { createRandom } from '../random.ts';
import {
  type BaseModel,
  type DpoExample,
  type DpoTrainerOptions,
  type KtoTrainerOptions,
  type RewardTrainerOptions,
  LORA_TARGETS,
  type ModelConfig,
  type SftExample,
  type SftTrainerOptions,
  type TrainerOptions,
  type TrainingHyper,
  type TrainProgress,
  type TrainResult,
} from '../types.ts';
import { createScorer } from './scorer.ts';
import { pairRow } from './dpoTask.ts';
import { createTrainer } from './trainer.ts';
import { TrainingCancelled } from './trainingCancelled.ts';

const config: ModelConfig = {
  hiddenSize: 16,
  intermediateSize: 24,
  numLayers: 2,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 4,
  vocabSize: 20,
  maxPositions: 48,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  tieWordEmbeddings: true,
};
const model: BaseModel = { config, weights: initWeights(config, 1, 0.3) };
const lora = initLora(config, { r: 2, alpha: 4, targets: [...LORA_TARGETS], dropout: 0 }, 5);
const hyper: TrainingHyper = { epochs: 2, batchSize: 4, maxLength: 40, learningRate: 0.01, warmupRatio: 0.1, seed: 9 };

function tokens(length: number, random: () => number): number[] {
  return Array.from({ length }, () => Math.floor(random() * config.vocabSize));
}

/** Texts that count upwards from a random token: predictable, so that a model can learn them. */
function countingTexts(count: number): SftExample[] {
  const random = createRandom(11);
  return Array.from({ length: count }, () => {
    const first = Math.floor(random() * config.vocabSize);
    const ids = Array.from({ length: 4 + Math.floor(random() * 12) }, (_, i) => (first + i) % config.vocabSize);
    return { ids, lossWeights: ids.map((_, i) => (i < 2 ? 0 : 1)) };
  });
}

function pairs(count: number): DpoExample[] {
  const random = createRandom(12);
  return Array.from({ length: count }, () => ({
    prompt: tokens(2 + Math.floor(random() * 5), random),
    chosen: [3, ...tokens(1 + Math.floor(random() * 6), random)],
    rejected: [4, ...tokens(1 + Math.floor(random() * 6), random)],
  }));
}

const sft = (more: Partial<SftTrainerOptions> = {}): SftTrainerOptions => ({
  model,
  task: 'sft',
  data: countingTexts(18),
  hyper,
  ...more,
});
const dpo = (more: Partial<DpoTrainerOptions> = {}): DpoTrainerOptions => ({
  model,
  lora,
  task: 'dpo',
  data: pairs(14),
  hyper: { ...hyper, dpo: { beta: 0.3, nllWeight: 0.2 } },
  reference: 'base',
  ...more,
});

/** What was chosen and rejected in pairs, judged one by one. */
const kto = (more: Partial<KtoTrainerOptions> = {}): KtoTrainerOptions => ({
  model,
  lora,
  task: 'kto',
  data: pairs(9).flatMap(({ prompt, chosen, rejected }, i) => [
    { prompt, completion: chosen, desirable: true },
    ...(i % 3 === 0 ? [] : [{ prompt, completion: rejected, desirable: false }]),
  ]),
  hyper: { ...hyper, kto: { beta: 0.3 } },
  reference: 'base',
  ...more,
});

const reward = (more: Partial<RewardTrainerOptions> = {}): RewardTrainerOptions => ({
  model,
  lora,
  task: 'reward',
  data: pairs(14).map((pair, i) => ({ ...pair, margin: i % 3 })),
  hyper: { ...hyper, reward: { centre: 0.01 } },
  ...more,
});

/** Learns a few random texts by heart, which only harms it on others. */
const stoppingEarly = (): SftTrainerOptions => {
  const texts = (count: number, random: () => number): SftExample[] =>
    Array.from({ length: count }, () => ({ ids: tokens(8, random), lossWeights: Array.from({ length: 8 }, () => 1) }));
  return sft({
    lora,
    data: texts(8, createRandom(21)),
    evaluation: { data: texts(6, createRandom(22)), everySteps: 1 },
    hyper: {
      ...hyper,
      epochs: 20,
      learningRate: 0.003,
      warmupRatio: 0,
      earlyStopping: { patience: 2 },
    },
  });
};

async function train(options: TrainerOptions): Promise<TrainResult> {
  return (await createTrainer(options)).run();
}

function bytesOf(result: TrainResult): string {
  const arrays = result.weights
    ? [...result.weights.values()].map((t) => t.data)
    : [...(result.lora?.tensors.values() ?? [])].flatMap(({ a, b }) => [a.data, b.data]);
  if (result.rewardHead !== undefined) arrays.push(result.rewardHead.weight.data);
  return Buffer.concat(arrays.map((d) => Buffer.from(d.buffer, d.byteOffset, d.byteLength))).toString('base64');
}

describe('learning', () => {
  test('full training learns to count, also packed and accumulated', async () => {
    for (const more of [{}, { packing: true, lossDivisor: 'constant' as const }, { gradientAccumulation: 2 }]) {
      const result = await train(sft({ hyper: { ...hyper, epochs: 25, ...more }, data: countingTexts(40) }));
      expect(result.firstLoss).toBeGreaterThan(2.5);
      expect(result.lastLoss).toBeLessThan(0.7);
    }
  });

  test('DPO raises the margin and the accuracy, from the base as reference', async () => {
    const seen: TrainProgress[] = [];
    await train(dpo({ hyper: { ...dpo().hyper, epochs: 12 }, onProgress: (p) => seen.push(p) }));
    expect(seen[0]?.rewardMargin).toBeCloseTo(0, 5);
    expect(seen.at(-1)?.rewardMargin).toBeGreaterThan(0.5);
    expect(seen.at(-1)?.accuracy).toBe(1);
    expect(seen.length).toBe(seen.at(-1)?.totalSteps);
  });

  test('KTO raises what is wanted above what is not, and says how far it went from the reference', async () => {
    const seen: TrainProgress[] = [];
    await train(kto({ hyper: { ...kto().hyper, epochs: 12 }, onProgress: (p) => seen.push(p) }));
    expect(seen[0]?.divergence).toBeCloseTo(0, 5);
    const last = seen.slice(-5);
    const mean = (of: (p: TrainProgress) => number | undefined): number => {
      const values = last.map(of).filter((v) => v !== undefined);
      return values.reduce((a, b) => a + b, 0) / values.length;
    };
    expect(mean((p) => p.desirableReward) - mean((p) => p.undesirableReward)).toBeGreaterThan(0.5);
    expect(mean((p) => p.accuracy)).toBeGreaterThan(0.9);
    expect(seen.every((p) => (p.divergence ?? -1) >= 0)).toBe(true);
  });

  test('the base and the given adapter stay as they were', async () => {
    const before = structuredClone({ weights: model.weights, lora });
    await train(dpo());
    await train(sft());
    expect({ weights: model.weights, lora }).toEqual(before);
  });

  test('evaluation loss is the mean over the evaluation texts', async () => {
    const data = countingTexts(9).slice(3);
    const seen: TrainProgress[] = [];
    const result = await train(sft({ evaluation: { data, everySteps: 1000 }, onProgress: (p) => seen.push(p) }));
    const scorer = await createScorer({ model: { config, weights: result.weights ?? new Map() } });
    const scores = (await scorer.logProbs(data.map(({ ids }) => ({ ids, from: 2 })))).flatMap((s) => [...s]);
    await scorer.close();
    expect(seen.at(-1)?.evalLoss).toBeCloseTo(-scores.reduce((a, b) => a + b, 0) / scores.length, 4);
  });
});

test('early stopping ends the run and returns what was best', async () => {
  const seen: TrainProgress[] = [];
  const options = stoppingEarly();
  const result = await train({ ...options, onProgress: (p) => seen.push(p) });
  const losses = seen.map((p) => p.evalLoss!);
  const best = losses.indexOf(Math.min(...losses));
  expect(result.steps).toBeLessThan(seen[0]!.totalSteps);
  expect(result.steps).toBe(seen.length);
  expect(best).toBe(losses.length - 3);
  expect(result.best).toEqual({ step: best + 1, evalLoss: losses[best] });
  const scorer = await createScorer({ model });
  const requests = options.evaluation!.data.map(({ ids }) => ({ ids }));
  const scores = (await scorer.logProbs(requests, result.lora)).flatMap((s) => [...s]);
  await scorer.close();
  expect(-scores.reduce((a, b) => a + b, 0) / scores.length).toBeCloseTo(losses[best]!, 4);
});

test('what an assistant message weighs is what its tokens weigh in the gradient', async () => {
  const ids = [1, 2, 3, 4, 5, 6];
  const firstStep = async (lossWeights: number[]): Promise<TrainProgress> => {
    const seen: TrainProgress[] = [];
    const once = { ...hyper, epochs: 1, learningRate: 0, maxGradNorm: 0 };
    await train(sft({ data: [{ ids, lossWeights }], hyper: once, onProgress: (p) => seen.push(p) }));
    return seen[0]!;
  };
  // Two messages, tokens 1-2 and 4-5: the second at half weight, alone, and left out.
  const [both, first, second] = await Promise.all([
    firstStep([0, 1, 1, 0, 0.5, 0.5]),
    firstStep([0, 1, 1, 0, 0, 0]),
    firstStep([0, 0, 0, 0, 1, 1]),
  ]);
  expect(both.loss).toBeCloseTo((2 * first.loss + 0.5 * 2 * second.loss) / 3, 5);
  expect(both.gradNorm).not.toBeCloseTo(first.gradNorm, 3);
});

describe('rows', () => {
  test('a prompt shared in one row scores like two separate texts', async () => {
    const scorer = await createScorer({ model });
    const examples = pairs(6);
    const shared = await scorer.scoreRows(examples.map((e) => pairRow(e, 0)));
    const apart = await scorer.logProbs(
      examples.flatMap(({ prompt, chosen, rejected }) =>
        [chosen, rejected].map((text) => ({ ids: [...prompt, ...text], from: prompt.length })),
      ),
    );
    await scorer.close();
    examples.forEach((_, i) => {
      const expected = [...(apart[2 * i] ?? []), ...(apart[2 * i + 1] ?? [])];
      expect(shared[i]?.length).toBe(expected.length);
      shared[i]?.forEach((value, t) => expect(value).toBeCloseTo(expected[t]!, 4));
    });
  });

  test('packing, batch size and accumulation leave the first step the same', async () => {
    const once = { ...hyper, epochs: 1, learningRate: 0, warmupRatio: 0 };
    const steps: TrainProgress[] = [];
    for (const more of [
      { batchSize: 18 },
      { batchSize: 18, packing: true },
      { batchSize: 3, gradientAccumulation: 6 },
    ]) {
      await train(sft({ hyper: { ...once, ...more }, onProgress: (p) => steps.push(p) }));
    }
    expect(steps).toHaveLength(3);
    for (const step of steps) {
      expect(step.loss).toBeCloseTo(steps[0]!.loss, 4);
      expect(step.gradNorm).toBeCloseTo(steps[0]!.gradNorm, 4);
    }
  });

  test('a row may be longer than the longest text: both answers of a pair together', async () => {
    const random = createRandom(4);
    const long = { prompt: tokens(10, random), chosen: tokens(30, random), rejected: tokens(30, random) };
    const result = await train(dpo({ data: [long] }));
    expect(result.firstLoss).toBeGreaterThan(0);
  });
});

describe('the same bytes', () => {
  test('same seed, same bytes; another seed, others', async () => {
    const first = bytesOf(await train(dpo()));
    expect(bytesOf(await train(dpo()))).toBe(first);
    const threaded = bytesOf(await train(dpo({ threads: 2 })));
    expect(bytesOf(await train(dpo({ threads: 2 })))).toBe(threaded);
    expect(bytesOf(await train(dpo({ hyper: { ...dpo().hyper, seed: 10 } })))).not.toBe(first);
  });

  const kinds = {
    'DPO on an adapter': () => dpo(),
    'SFT on an adapter': () => sft({ lora }),
    'KTO on an adapter': () => kto(),
    'reward model, adapter and head': () => reward(),
    'SFT that stops early': () => stoppingEarly(),
    'full training, packed and accumulated': () =>
      sft({ hyper: { ...hyper, packing: true, batchSize: 1, gradientAccumulation: 2 } }),
  };

  test.each(Object.entries(kinds))('%s: resumed from any step', async (_, options) => {
    const states = new Map<number, Uint8Array>();
    const save = async (state: Uint8Array, step: number): Promise<void> => void states.set(step, state);
    const whole = await train({ ...options(), checkpoint: { everySteps: 1, save } });
    expect(states.size).toBe(whole.steps);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: whole.steps }), async (step) => {
        const resumed = await train({ ...options(), resumeFrom: states.get(step)! });
        expect(bytesOf(resumed)).toBe(bytesOf(whole));
        expect([resumed.steps, resumed.firstLoss, resumed.lastLoss]).toEqual([
          whole.steps,
          whole.firstLoss,
          whole.lastLoss,
        ]);
      }),
      { numRuns: 4 },
    );
  });

  test('cancelled at any step: stops before the next, and the saved state ends with the same bytes', async () => {
    const whole = bytesOf(await train(dpo()));
    for (const last of [1, 4]) {
      const controller = new AbortController();
      const states: Uint8Array[] = [];
      let steps = 0;
      const trainer = await createTrainer(
        dpo({
          signal: controller.signal,
          checkpoint: { everySteps: 1000, save: async (state) => void states.push(state) },
          onProgress: ({ step }) => {
            steps = step;
            if (step === last) controller.abort(new Error('enough'));
          },
        }),
      );
      await expect(trainer.run()).rejects.toBeInstanceOf(TrainingCancelled);
      expect(steps).toBe(last);
      expect(states).toHaveLength(1);
      expect(bytesOf(await train(dpo({ resumeFrom: states[0]! })))).toBe(whole);
    }
  });

  test.each(Object.entries(kinds))(
    '%s: aborted at any moment, a state that ends the same, or none',
    async (_, options) => {
      const whole = bytesOf(await train(options()));
      await fc.assert(
        fc.asyncProperty(fc.integer({ min: 0, max: 40 }), async (turns) => {
          const controller = new AbortController();
          const states: Uint8Array[] = [];
          let left = turns;
          const tick = (): void => void (left-- > 0 ? setImmediate(tick) : controller.abort(new Error('enough')));
          tick();
          const checkpoint = { everySteps: 3, save: async (state: Uint8Array) => void states.push(state) };
          const outcome = await train({ ...options(), signal: controller.signal, checkpoint }).catch((e: unknown) => e);
          if (outcome instanceof Error) expect(outcome).toBeInstanceOf(TrainingCancelled);
          const last = states.at(-1);
          const resumed = await train({ ...options(), ...(last && { resumeFrom: last }) });
          expect(bytesOf(resumed)).toBe(whole);
        }),
        { numRuns: 2 },
      );
    },
  );

  test('paused: the state in hand ends with the same bytes', async () => {
    const whole = bytesOf(await train(dpo()));
    let state: Promise<Uint8Array> | undefined;
    const trainer = await createTrainer(
      dpo({ onProgress: ({ step }) => void (step === 2 && (state = trainer.pause())) }),
    );
    await expect(trainer.run()).rejects.toMatchObject({ code: 'engine.train.cancelled', step: 2 });
    expect(bytesOf(await train(dpo({ resumeFrom: await state! })))).toBe(whole);
    const ended = await createTrainer(dpo());
    await ended.run();
    await expect(ended.pause()).rejects.toMatchObject({ code: 'engine.train.already_run' });
  });

  test('cancelled while the reference is computed: nothing to save', async () => {
    const options = dpo({ signal: AbortSignal.abort() });
    await expect(createTrainer(options)).rejects.toMatchObject({ code: 'engine.train.cancelled', step: 0 });
  });

  test('a state of another run, or a damaged one, is refused', async () => {
    const states: Uint8Array[] = [];
    await train(dpo({ checkpoint: { everySteps: 1, save: async (state) => void states.push(state) } }));
    const state = states[0]!;
    const refused = { code: 'engine.train.bad_state' };
    await expect(createTrainer(dpo({ resumeFrom: state, data: pairs(13) }))).rejects.toMatchObject(refused);
    const other = { config, weights: initWeights(config, 2, 0.3) };
    await expect(createTrainer(dpo({ resumeFrom: state, model: other }))).rejects.toMatchObject(refused);
    await expect(createTrainer(dpo({ resumeFrom: state.slice(0, -4) }))).rejects.toMatchObject(refused);
    await expect(createTrainer(dpo({ resumeFrom: state.slice(0, 9) }))).rejects.toMatchObject(refused);
  });
});

test('a run that diverges stops and says where', async () => {
  const trainer = await createTrainer(sft({ hyper: { ...hyper, learningRate: 1e30, warmupRatio: 0, maxGradNorm: 0 } }));
  await expect(trainer.run()).rejects.toMatchObject({ code: 'engine.train.diverged' });
});

describe('what cannot work is refused by name', () => {
  const wrongLora = initLora({ ...config, hiddenSize: 8 }, lora.config, 1);
  const cases: [string, TrainerOptions, string][] = [
    ['no data', sft({ data: [] }), 'engine.train.no_data'],
    ['a batch of half a text', sft({ hyper: { ...hyper, batchSize: 0.5 } }), 'engine.train.bad_hyper'],
    ['longer than the model', sft({ hyper: { ...hyper, maxLength: 49 } }), 'engine.train.too_long'],
    ['nothing to learn', sft({ data: [{ ids: [1, 2], lossWeights: [1, 0] }] }), 'engine.train.no_targets'],
    ['weights of another length', sft({ data: [{ ids: [1, 2], lossWeights: [1] }] }), 'engine.train.bad_example'],
    [
      'a token outside the vocabulary',
      sft({ data: [{ ids: [1, 20], lossWeights: [0, 1] }] }),
      'engine.train.bad_token',
    ],
    ['a pair too long', dpo({ hyper: { ...hyper, maxLength: 8 } }), 'engine.train.too_long'],
    ['an empty answer', dpo({ data: [{ prompt: [1], chosen: [], rejected: [2] }] }), 'engine.train.bad_example'],
    [
      'patience without evaluation',
      sft({ hyper: { ...hyper, earlyStopping: { patience: 1 } } }),
      'engine.train.bad_hyper',
    ],
    ['KTO one by one', kto({ hyper: { ...hyper, batchSize: 1 } }), 'engine.train.bad_hyper'],
    ['an adapter of another model', sft({ lora: wrongLora }), 'engine.adapter.wrong_shape'],
    ['a missing weight', sft({ model: { config, weights: new Map() } }), 'engine.weights.missing'],
  ];
  test.each(cases)('%s', async (_, options, code) => {
    await expect(createTrainer(options)).rejects.toMatchObject({ code });
  });
});
