/** KTO against TRL's KTOTrainer, from the fixtures that fixtures/make_methods.py wrote, and what is particular to it. */
import { describe, expect, test } from 'vitest';
import { fixturePath, readFixture, relativeError } from '../../fixtures/fixtures.ts';
import { readPeftFolder } from '../adapters/peft.ts';
import type { KtoExample, TrainingHyper } from '../types.ts';
import { loadModelFolder } from '../weights/loadModel.ts';
import { gradientErrors } from '../../fixtures/gradientErrors.ts';
import { createExecutor } from './createExecutor.ts';
import { checkKto, ktoTask, ktoWeights } from './ktoTask.ts';
import { planEpoch } from './plan.ts';
import { createScorer } from './scorer.ts';
import { meanMetrics } from './task.ts';

const TOLERANCE = 1e-4;

interface Fixture {
  readonly prompts: number[][];
  readonly completions: number[][];
  readonly desirable: boolean[];
  readonly beta: number;
  readonly cases: Record<
    string,
    {
      readonly order: number[];
      readonly desirable_weight: number;
      readonly undesirable_weight: number;
      readonly loss: number;
      readonly kl: number;
      readonly desirable_reward: number;
      readonly undesirable_reward: number;
    }
  >;
}

/** A seed whose first epoch is one batch of all examples in their order. */
function seedInOrder(lengths: number[]): number {
  for (let seed = 0; seed < 100; seed++) {
    const order = planEpoch({ lengths, batchSize: lengths.length, seed }, 0).flat(2);
    if (order.every((index, i) => index === i)) return seed;
  }
  throw new Error('no seed keeps the order');
}

describe.each(['balanced', 'clamped'])('%s', (name) => {
  test('loss, divergence, rewards and LoRA gradients are those of TRL', async () => {
    const fixture = await readFixture<Fixture>('methods/kto.json');
    const expected = fixture.cases[name]!;
    const data = expected.order.map(
      (i): KtoExample => ({
        prompt: fixture.prompts[i]!,
        completion: fixture.completions[i]!,
        desirable: fixture.desirable[i]!,
      }),
    );
    const hyper: TrainingHyper = {
      epochs: 1,
      batchSize: data.length,
      maxLength: 24,
      learningRate: 0,
      seed: seedInOrder(data.map((e) => e.prompt.length + e.completion.length)),
      kto: {
        beta: fixture.beta,
        desirableWeight: expected.desirable_weight,
        undesirableWeight: expected.undesirable_weight,
      },
    };
    const model = await loadModelFolder(fixturePath('tiny-tied'));
    const lora = await readPeftFolder(fixturePath('adapter'));
    const task = ktoTask(data, hyper, ktoWeights(data, hyper.kto));
    const scorer = await createScorer({ model });
    task.reference?.fill(await scorer.scoreRows(task.reference.rows));
    await scorer.close();
    const executor = await createExecutor({
      model,
      lora,
      loss: task.loss,
      rowLength: 24,
      passTokens: 96,
      threads: 1,
    });
    const { feeds, measure } = await task.pass([data.map((_, i) => i)], data.length, executor);
    const result = await executor.gradientPass(feeds);
    const metrics = meanMetrics([measure?.(result) ?? {}]);
    expect(result.loss).toBeCloseTo(expected.loss, 4);
    expect(metrics.divergence).toBeCloseTo(expected.kl, 4);
    expect(expected.kl > 0).toBe(name === 'balanced');
    expect(metrics.desirableReward).toBeCloseTo(expected.desirable_reward, 4);
    expect(metrics.undesirableReward).toBeCloseTo(expected.undesirable_reward, 4);
    const errors = await gradientErrors(executor, `methods/kto_${name}.safetensors`);
    expect(errors.length).toBe(28);
    expect(Math.max(...errors)).toBeLessThan(TOLERANCE);
    await executor.close();
  });
});

const example = (desirable: boolean): KtoExample => ({ prompt: [1, 2], completion: [3], desirable });
const hyper: TrainingHyper = { epochs: 1, batchSize: 4, maxLength: 8, learningRate: 1, seed: 1 };

test('by default the rarer kind counts as much as the other', () => {
  const data = [true, true, true, false, true].map(example);
  expect(ktoWeights(data)).toEqual({ desirable: 1, undesirable: 4 });
  expect(ktoWeights(data.map((e) => ({ ...e, desirable: !e.desirable })))).toEqual({ desirable: 4, undesirable: 1 });
  expect(ktoWeights(data, { undesirableWeight: 2 })).toEqual({ desirable: 1, undesirable: 2 });
  expect(ktoWeights([example(true)])).toEqual({ desirable: 1, undesirable: 1 });
});

test('what KTO cannot do is refused', () => {
  const two = [example(true), example(false)];
  expect(() => checkKto(two, { ...hyper, batchSize: 1 })).toThrow(/batchSize/);
  expect(() => checkKto([example(true)], hyper)).toThrow(/two examples/);
  expect(() => checkKto([...two, { ...example(true), completion: [] }], hyper)).toThrow(/example 2 has an empty/);
  expect(() => checkKto(two, { ...hyper, maxLength: 2 })).toThrow(/example 0 has 3 tokens/);
});

test('completions stay with their foreign prompt over the epochs, cut where they would not fit', async () => {
  const data = [5, 3, 4, 6, 2].map((length, i) => ({
    prompt: [i],
    completion: Array.from({ length }, (_, t) => 10 * (i + 1) + t),
    desirable: i % 2 === 0,
  }));
  const task = ktoTask(data, { ...hyper, batchSize: 2, maxLength: 6 }, { desirable: 1, undesirable: 1 });
  const rows = task.reference?.rows ?? [];
  const foreign = rows.slice(5).map((row) => row.segments.map((s) => [...s.ids]));
  foreign.forEach(([prompt, completion], i) => {
    expect(prompt).toEqual([i]);
    const owner = Math.floor(completion![0]! / 10) - 1;
    expect(owner).not.toBe(i);
    expect(completion).toEqual(data[owner]!.completion.slice(0, 5));
  });
  expect(relativeError(task.lengths, [6, 4, 5, 7, 3])).toBe(0);
});
