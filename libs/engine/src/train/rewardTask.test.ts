/** Reward models against TRL's RewardTrainer, Transformers and PEFT (fixtures/make_methods.py), and what is particular. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { fixturePath, readFixture, relativeError } from '../../fixtures/fixtures.ts';
import { gradientErrors } from '../../fixtures/gradientErrors.ts';
import { readPeftFolder } from '../adapters/peft.ts';
import {
  encodeRewardModel,
  initRewardHead,
  readRewardFolder,
  type RewardModel,
  writeRewardFolder,
} from '../adapters/rewardHead.ts';
import type { BaseModel, ExecutorKind, RewardPair, ScoredText, TrainingHyper, TrainProgress } from '../types.ts';
import { loadModelFolder } from '../weights/loadModel.ts';
import { decodeSafetensors, readSafetensors } from '../weights/safetensors.ts';
import { createExecutor } from './createExecutor.ts';
import { createRewardScorer } from './rewardScorer.ts';
import { rewardTask } from './rewardTask.ts';
import { createTrainer } from './trainer.ts';

const TOLERANCE = 1e-4;

interface Case {
  readonly margin?: number[];
  readonly center?: number;
  readonly dimension?: number[];
  readonly scores?: number[][];
  readonly loss: number;
  readonly rewards: number[][];
}
interface Fixture {
  readonly chosen: number[][];
  readonly rejected: number[][];
  readonly cases: Record<string, Case>;
}

const hyper: TrainingHyper = { epochs: 1, batchSize: 8, maxLength: 32, learningRate: 0, seed: 3 };
let model: BaseModel;
let fixture: Fixture;
let trained: RewardModel;

beforeAll(async () => {
  model = await loadModelFolder(fixturePath('tiny-tied'));
  fixture = await readFixture<Fixture>('methods/reward.json');
  trained = await readRewardFolder(fixturePath('methods/reward_adapter'));
});

/** The head that make_methods.py drew for two labels; its first row is not the one-label head's. */
async function headFor(labels: number): Promise<RewardModel> {
  if (labels === 1) return trained;
  const { head } = await readRewardFolder(fixturePath('methods/reward_adapter_2'));
  return { lora: trained.lora, head: { dimensions: ['helpful', 'brief'], weight: head.weight } };
}

function dataOf(of: Case): RewardPair[] | ScoredText[] {
  if (of.scores !== undefined) {
    const scores = of.scores;
    return [...fixture.chosen, ...fixture.rejected].map((ids, i) => ({
      ids,
      scores: { helpful: scores[i]![0]!, brief: scores[i]![1]! },
    }));
  }
  return fixture.chosen.map((chosen, i) => ({
    prompt: [],
    chosen,
    rejected: fixture.rejected[i]!,
    ...(of.margin === undefined ? {} : { margin: of.margin[i]! }),
    ...(of.dimension === undefined ? {} : { dimension: ['helpful', 'brief'][of.dimension[i]!]! }),
  }));
}

const kinds: ExecutorKind[] = ['whole-graph', 'layer-wise'];
const names = ['plain', 'margin', 'centred', 'dimensions', 'scores'];

describe.each(kinds)('%s', (executorKind) => {
  test.each(names)('%s: loss, rewards, gradients of adapter and head', async (name) => {
    const expected = fixture.cases[name]!;
    const { lora, head } = await headFor(expected.rewards[0]!.length);
    const data = dataOf(expected);
    const centre = expected.center ?? 0;
    const task = rewardTask(data, head, { ...hyper, reward: { centre } });
    const executor = await createExecutor({
      model,
      lora,
      rewardHead: head.weight,
      loss: task.loss,
      rowLength: 32,
      passTokens: 256,
      threads: 1,
      executor: executorKind,
    });
    const divisor = task.shares.reduce((a, b) => a + b, 0);
    const { feeds } = await task.pass([data.map((_, i) => i)], divisor, executor);
    const result = await executor.gradientPass(feeds);
    expect(result.loss).toBeCloseTo(expected.loss, 4);
    expect((await executor.lossPass(feeds)).loss).toBeCloseTo(expected.loss, 4);
    const pairs = fixture.chosen.length;
    const order =
      expected.scores === undefined
        ? fixture.chosen.flatMap((_, i) => [i, pairs + i])
        : expected.rewards.map((_, i) => i);
    expect(
      relativeError(
        result.rewards ?? [],
        order.flatMap((i) => expected.rewards[i]!),
      ),
    ).toBeLessThan(TOLERANCE);
    const errors = await gradientErrors(executor, `methods/reward_${name}.safetensors`);
    expect(errors.length).toBe(29);
    expect(Math.max(...errors)).toBeLessThan(TOLERANCE);
    await executor.close();
  });
});

test('a scorer gives the rewards of any texts, in any company', async () => {
  const scorer = await createRewardScorer({ model, ...trained, batchTokens: 20 });
  const texts = [...fixture.chosen, ...fixture.rejected];
  const rewards = await scorer.score(texts);
  expect(scorer.dimensions).toEqual(['reward']);
  expect(
    relativeError(
      rewards.map((r) => r[0]!),
      fixture.cases['plain']!.rewards.flat(),
    ),
  ).toBeLessThan(TOLERANCE);
  const longer = await scorer.score([Array.from({ length: 40 }, (_, i) => i + 3), texts[0]!]);
  expect(longer[1]![0]).toBeCloseTo(rewards[0]![0]!, 5);
  await expect(scorer.score([[]])).rejects.toMatchObject({ code: 'engine.score.bad_request' });
  await expect(scorer.score([[97]])).rejects.toMatchObject({ code: 'engine.score.bad_request' });
  await scorer.close();
});

test('training tells good from bad in each of two dimensions, on a copy of the head', async () => {
  const pairs = Array.from({ length: 24 }, (_, i): RewardPair => {
    const prompt = [10 + (i % 7), 20 + (i % 5)];
    const good = i % 2 === 0 ? 5 : 6; // What is good in one dimension is bad in the other.
    return {
      prompt,
      chosen: [30 + (i % 3), good],
      rejected: [30 + (i % 3), 11 - good],
      dimension: i % 2 ? 'brief' : 'kind',
    };
  });
  const head = initRewardHead(model.config, ['kind', 'brief'], 1);
  const before = head.weight.data.slice();
  const seen: TrainProgress[] = [];
  const trainer = await createTrainer({
    task: 'reward',
    model,
    lora: await readPeftFolder(fixturePath('adapter')),
    head,
    data: pairs,
    hyper: { ...hyper, epochs: 15, learningRate: 5e-3 },
    onProgress: (p) => seen.push(p),
  });
  const { lora, rewardHead } = await trainer.run();
  expect(head.weight.data).toEqual(before);
  expect(seen.at(-1)).toMatchObject({ accuracy: 1 });
  expect(seen.at(-1)!.loss).toBeLessThan(0.1);
  const scorer = await createRewardScorer({ model, lora: lora!, head: rewardHead! });
  const [five, six] = (await scorer.score([
    [11, 21, 31, 5],
    [11, 21, 31, 6],
  ])) as [Float32Array, Float32Array];
  expect(five[0]! - six[0]!).toBeGreaterThan(1);
  expect(six[1]! - five[1]!).toBeGreaterThan(1);
  await scorer.close();
});

test('what is written is what PEFT wrote: the same tensors under the same names', async () => {
  const model2 = await headFor(2);
  const files = await encodeRewardModel(model2, 'tiny-tied');
  const theirs = await readSafetensors(fixturePath('methods/reward_adapter_2/adapter_model.safetensors'));
  const ours = await decodeSafetensors(files.weights, 'ours');
  expect([...ours.keys()].toSorted()).toEqual([...theirs.keys()].toSorted());
  for (const [name, tensor] of theirs) expect(ours.get(name)).toEqual(tensor);
  const config: unknown = JSON.parse(new TextDecoder().decode(files.config));
  expect(config).toMatchObject({ modules_to_save: ['score'], task_type: 'SEQ_CLS', r: 4, lora_alpha: 8 });
});

test('a folder holds the model, names of dimensions included; a plain adapter is no reward model', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tuneloop-reward-'));
  try {
    const head = initRewardHead(model.config, ['helpful', 'brief'], 4);
    await writeRewardFolder(folder, { lora: trained.lora, head }, 'tiny-tied');
    const read = await readRewardFolder(folder);
    expect(read.head).toEqual(head);
    expect([...read.lora.tensors.keys()].toSorted()).toEqual([...trained.lora.tensors.keys()].toSorted());
  } finally {
    await rm(folder, { recursive: true });
  }
  await expect(readRewardFolder(fixturePath('adapter'))).rejects.toMatchObject({ code: 'engine.adapter.unsupported' });
});

test('what cannot be learned from is refused by name', () => {
  const pair = { prompt: [1], chosen: [2], rejected: [3] };
  const cases: [RewardPair[] | ScoredText[], RegExp][] = [
    [[{ ...pair, dimension: 'wit' }], /pair 0 names the dimension wit; the head has reward/],
    [[pair, { ...pair, rejected: [] }], /pair 1 has an empty text/],
    [[{ ...pair, chosen: Array.from({ length: 32 }, () => 1) }], /pair 0 has 33 tokens/],
    [[{ ...pair, margin: Number.NaN }], /margin of pair 0/],
    [[{ ids: [1], scores: {} }], /example 0 has no scores/],
    [[{ ids: [1], scores: { reward: Infinity } }], /score reward of example 0/],
    [[pair, { ids: [1], scores: { reward: 1 } }] as RewardPair[], /all pairs/],
  ];
  for (const [data, message] of cases) expect(() => rewardTask(data, trained.head, hyper)).toThrow(message);
});
