import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { initLora } from '../adapters/lora.ts';
import { initWeights } from '../models/initWeights.ts';
import {
  type BaseModel,
  type GrpoHyper,
  LORA_TARGETS,
  type ModelConfig,
  type TrainProgress,
  type TrainResult,
} from '../types.ts';
import { stepPrompts } from './grpoRollouts.ts';
import { createGrpoTrainer } from './grpoTrainer.ts';
import type { GrpoTrainerOptions, Rollout } from './grpoTypes.ts';
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
const lora = initLora(config, { r: 4, alpha: 8, targets: [...LORA_TARGETS], dropout: 0 }, 5);
const END = 0;
const LIKED = 7;

/** Share of a completion's tokens that are the liked one. */
const likedShare = ({ completion }: Rollout): number =>
  completion.filter((id) => id === LIKED).length / completion.length;

const hyper: GrpoHyper = {
  steps: 6,
  promptsPerStep: 2,
  groupSize: 4,
  maxTokens: 6,
  batchSize: 3,
  numIterations: 2,
  beta: 0.02,
  learningRate: 0.01,
  seed: 3,
};

const options = (more: Partial<GrpoTrainerOptions> = {}): GrpoTrainerOptions => ({
  model,
  lora,
  prompts: [
    [1, 2, 3],
    [4, 5],
    [6, 1, 2, 8, 9],
  ],
  eosTokenIds: [END],
  reward: (rollouts) => rollouts.map(likedShare),
  hyper,
  ...more,
});

const train = async (more: Partial<GrpoTrainerOptions> = {}): Promise<TrainResult> =>
  (await createGrpoTrainer(options(more))).run();

function bytesOf({ lora: trained }: TrainResult): string {
  const arrays = [...(trained?.tensors.values() ?? [])].flatMap(({ a, b }) => [a.data, b.data]);
  return Buffer.concat(arrays.map((d) => Buffer.from(d.buffer, d.byteOffset, d.byteLength))).toString('base64');
}

test.each([
  { lossType: 'grpo', scaleRewards: 'group' },
  { lossType: 'dr_grpo', scaleRewards: 'none', learningRate: 0.03 },
  { lossType: 'bnpo', scaleRewards: 'batch', numIterations: 1, beta: 0 },
] as const)('$lossType learns what is rewarded', async (variant) => {
  const seen: TrainProgress[] = [];
  const before = structuredClone(lora);
  await train({
    hyper: { ...hyper, steps: 40, promptsPerStep: 3, groupSize: 8, batchSize: 24, ...variant },
    onProgress: (p) => seen.push(p),
  });
  const mean = (from: number, to: number): number =>
    seen.slice(from, to).reduce((sum, p) => sum + (p.reward ?? 0), 0) / (to - from);
  expect(mean(0, 3)).toBeLessThan(0.25);
  expect(mean(37, 40)).toBeGreaterThan(0.6);
  expect(seen).toHaveLength(40);
  expect(seen.every((p) => p.completionLength! >= 1 && p.completionLength! <= 6)).toBe(true);
  expect(seen.some((p) => p.divergence !== undefined)).toBe(variant.lossType !== 'bnpo');
  expect(lora).toEqual(before);
});

test('layer by layer it learns the same', async () => {
  const rewards = async (executor: 'whole-graph' | 'layer-wise'): Promise<number[]> => {
    const seen: number[] = [];
    await train({ executor, onProgress: (p) => seen.push(p.loss) });
    return seen;
  };
  const [whole, layers] = [await rewards('whole-graph'), await rewards('layer-wise')];
  layers.forEach((loss, i) => expect(loss).toBeCloseTo(whole[i]!, 4));
});

test('with one iteration nothing is clipped; with several the ratio moves', async () => {
  const clipShares = async (numIterations: number): Promise<number[]> => {
    const shares: number[] = [];
    await train({
      hyper: { ...hyper, numIterations, epsilon: 0.01, steps: 4 },
      onProgress: (p) => shares.push(p.clipShare!),
    });
    return shares;
  };
  expect(await clipShares(1)).toEqual([0, 0, 0, 0]);
  expect(Math.max(...(await clipShares(4)))).toBeGreaterThan(0);
});

test('rewards that are equal within their groups change nothing', async () => {
  const result = await train({
    reward: (rollouts) => rollouts.map(({ promptIndex }) => promptIndex),
    hyper: { ...hyper, beta: 0 },
  });
  expect(result.lora?.tensors).toEqual(lora.tensors);
});

test('every prompt in each round, in another order, from any step', () => {
  const rounds = [0, 1, 2, 3, 4].flatMap((step) => stepPrompts(5, { ...hyper, promptsPerStep: 2 }, step));
  expect(rounds.slice(0, 5).toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4]);
  expect(rounds.slice(5).toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4]);
  expect(rounds.slice(5)).not.toEqual(rounds.slice(0, 5));
  expect(stepPrompts(1, { ...hyper, promptsPerStep: 3 }, 7)).toEqual([0, 0, 0]);
});

describe('the same bytes', () => {
  test('same seed, same bytes; another seed, others; resumed from any step', async () => {
    const states = new Map<number, Uint8Array>();
    const save = async (state: Uint8Array, step: number): Promise<void> => void states.set(step, state);
    const whole = await train({ checkpoint: { everySteps: 1, save } });
    expect(bytesOf(await train())).toBe(bytesOf(whole));
    expect(bytesOf(await train({ hyper: { ...hyper, seed: 4 } }))).not.toBe(bytesOf(whole));
    for (const [step, state] of states) {
      const resumed = await train({ resumeFrom: state });
      expect({ step, same: bytesOf(resumed) === bytesOf(whole) }).toEqual({ step, same: true });
      expect([resumed.steps, resumed.firstLoss, resumed.lastLoss]).toEqual([6, whole.firstLoss, whole.lastLoss]);
    }
    await expect(train({ resumeFrom: states.get(2)!, prompts: [[1]] })).rejects.toMatchObject({
      code: 'engine.train.bad_state',
    });
  });

  test('paused: the state in hand ends with the same bytes', async () => {
    const whole = bytesOf(await train());
    let state: Promise<Uint8Array> | undefined;
    const trainer = await createGrpoTrainer(
      options({ onProgress: ({ step }) => void (step === 3 && (state = trainer.pause())) }),
    );
    await expect(trainer.run()).rejects.toMatchObject({ code: 'engine.train.cancelled', step: 3 });
    expect(bytesOf(await train({ resumeFrom: await state! }))).toBe(whole);
    await expect(trainer.pause()).rejects.toMatchObject({ code: 'engine.train.cancelled' });
  });

  test('aborted at any moment: a state that ends with the same bytes, or none', async () => {
    const whole = bytesOf(await train());
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 60 }), async (turns) => {
        const controller = new AbortController();
        const states: Uint8Array[] = [];
        let steps = 0;
        const trainer = await createGrpoTrainer(
          options({
            signal: controller.signal,
            checkpoint: { everySteps: 1000, save: async (state) => void states.push(state) },
            onProgress: ({ step }) => void (steps = step),
          }),
        );
        let left = turns;
        const tick = (): void => void (left-- > 0 ? setImmediate(tick) : controller.abort(new Error('enough')));
        tick();
        const outcome = await trainer.run().catch((error: unknown) => error);
        if (outcome instanceof Error) {
          expect(outcome).toBeInstanceOf(TrainingCancelled);
          expect(states).toHaveLength(steps > 0 ? 1 : 0);
          const resumed = await train(states[0] === undefined ? {} : { resumeFrom: states[0] });
          expect(bytesOf(resumed)).toBe(whole);
        }
      }),
      { numRuns: 6 },
    );
  });
});

describe('held-out prompts', () => {
  const evaluation = {
    prompts: [
      [2, 3],
      [9, 9, 1],
    ],
    everySteps: 2,
    samples: 3,
  };
  /** What is learned harms what is held out. */
  const contrary = (rollouts: readonly Rollout[]): number[] =>
    rollouts.map((rollout) => (rollout.heldOut ? -likedShare(rollout) : likedShare(rollout)));

  test('are judged every so many steps and at the end, the same way each time, and change nothing', async () => {
    const held: Rollout[] = [];
    const seen: (number | undefined)[] = [];
    const reward = (rollouts: readonly Rollout[]): number[] => {
      held.push(...rollouts.filter(({ heldOut }) => heldOut));
      return rollouts.map(likedShare);
    };
    const shape = { ...hyper, steps: 5 };
    const evaluated = await train({
      hyper: shape,
      reward,
      evaluation,
      onProgress: ({ evalReward }) => seen.push(evalReward),
    });
    expect(seen.map((value) => value !== undefined)).toEqual([false, true, false, true, true]);
    expect(held).toHaveLength(3 * 2 * 3);
    expect(held.every(({ prompt, promptIndex }) => prompt === evaluation.prompts[promptIndex])).toBe(true);
    expect(bytesOf(evaluated)).toBe(bytesOf(await train({ hyper: shape })));
  });

  test('stop a run that no longer helps them; resumed from any step it ends the same', async () => {
    const stopping = {
      reward: contrary,
      evaluation: { ...evaluation, everySteps: 1 },
      hyper: { ...hyper, steps: 30, learningRate: 0.03, earlyStopping: { patience: 3 } },
    };
    const states = new Map<number, Uint8Array>();
    const save = async (state: Uint8Array, step: number): Promise<void> => void states.set(step, state);
    const whole = await train({ ...stopping, checkpoint: { everySteps: 1, save } });
    expect(whole.steps).toBe(whole.best!.step + 3);
    expect(whole.steps).toBeLessThan(30);
    const { earlyStopping: _none, ...plain } = stopping.hyper;
    const atBest = await train({ hyper: { ...plain, steps: whole.best!.step } });
    expect(bytesOf(whole)).toBe(bytesOf(atBest));
    for (const state of states.values()) {
      const resumed = await train({ ...stopping, resumeFrom: state });
      expect([resumed.steps, resumed.best]).toEqual([whole.steps, whole.best]);
      expect(bytesOf(resumed)).toBe(bytesOf(whole));
    }
  });
});

describe('what cannot work is refused by name', () => {
  const cases: [string, Partial<GrpoTrainerOptions>, string][] = [
    [
      'early stopping without evaluation',
      { hyper: { ...hyper, earlyStopping: { patience: 1 } } },
      'engine.train.bad_hyper',
    ],
    ['no prompts to evaluate with', { evaluation: { prompts: [], everySteps: 1 } }, 'engine.train.no_data'],
    ['an evaluation at no step', { evaluation: { prompts: [[1]], everySteps: 0 } }, 'engine.train.bad_hyper'],
    ['no prompts', { prompts: [] }, 'engine.train.no_data'],
    ['an empty prompt', { prompts: [[]] }, 'engine.train.bad_example'],
    ['a token outside the vocabulary', { prompts: [[20]] }, 'engine.train.bad_token'],
    ['a group of one', { hyper: { ...hyper, groupSize: 1 } }, 'engine.train.bad_hyper'],
    ['a negative beta', { hyper: { ...hyper, beta: -1 } }, 'engine.train.bad_hyper'],
    ['longer than the model', { hyper: { ...hyper, maxTokens: 44 } }, 'engine.train.too_long'],
  ];
  test.each(cases)('%s', async (_, more, code) => {
    await expect(createGrpoTrainer(options(more))).rejects.toMatchObject({ code });
  });

  test('a reward function that gives too few rewards or no numbers', async () => {
    for (const reward of [() => [1], (r: readonly Rollout[]) => r.map(() => Number.NaN)]) {
      await expect(train({ reward })).rejects.toMatchObject({ code: 'engine.train.bad_reward' });
    }
    const thrown = new Error('the judge is away');
    await expect(train({ reward: () => Promise.reject(thrown) })).rejects.toBe(thrown);
  });
});
