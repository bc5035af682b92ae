/** GRPO's arithmetic against TRL's GRPOTrainer on fixed rollouts (fixtures/make_methods.py). */
import { beforeAll, describe, expect, test } from 'vitest';
import { fixturePath, readFixture, relativeError } from '../../fixtures/fixtures.ts';
import { gradientErrors } from '../../fixtures/gradientErrors.ts';
import { readPeftFolder } from '../adapters/peft.ts';
import type { BaseModel, GrpoHyper, LoraWeights } from '../types.ts';
import { loadModelFolder } from '../weights/loadModel.ts';
import { createExecutor } from './createExecutor.ts';
import {
  groupAdvantages,
  grpoLossSpec,
  grpoPass,
  passFigures,
  type PassText,
  sampledRow,
  splitByText,
  tokenShares,
} from './grpo.ts';
import { createScorer } from './scorer.ts';

const TOLERANCE = 1e-4;

interface Case {
  readonly loss_type: NonNullable<GrpoHyper['lossType']>;
  readonly scale_rewards: NonNullable<GrpoHyper['scaleRewards']>;
  readonly beta: number;
  readonly kl_correction: boolean;
  readonly old: number[][] | null;
  readonly loss: number;
  readonly kl: number;
  readonly clip_share: number;
}
interface Fixture {
  readonly prompts: number[][];
  readonly completions: number[][];
  readonly group_size: number;
  readonly rewards: number[];
  readonly advantages: Record<Case['scale_rewards'], number[]>;
  readonly max_completion_length: number;
  readonly epsilon: number;
  readonly cases: Record<string, Case>;
}

let fixture: Fixture;
let model: BaseModel;
let lora: LoraWeights;

beforeAll(async () => {
  fixture = await readFixture<Fixture>('methods/grpo.json');
  model = await loadModelFolder(fixturePath('tiny-tied'));
  lora = await readPeftFolder(fixturePath('adapter'));
});

test.each(['group', 'batch', 'none'] as const)('advantages scaled by %s', (scale) => {
  const ours = groupAdvantages(fixture.rewards, fixture.group_size, scale);
  expect(relativeError(ours, fixture.advantages[scale])).toBeLessThan(1e-6);
});

test('a group of equal rewards teaches nothing', () => {
  expect(groupAdvantages([1, 1, 0, 3], 2, 'group').slice(0, 2)).toEqual([0, 0]);
});

async function textsOf(expected: Case): Promise<PassText[]> {
  const scorer = await createScorer({ model });
  const sampled = fixture.prompts.map((prompt, i) => ({ prompt, completion: fixture.completions[i]! }));
  const reference = await scorer.scoreRows(sampled.map((text) => sampledRow(text, 1)));
  await scorer.close();
  const lengths = fixture.completions.map((c) => c.length);
  const shares = tokenShares(lengths, expected.loss_type, fixture.max_completion_length);
  const advantages = groupAdvantages(fixture.rewards, fixture.group_size, expected.scale_rewards);
  return sampled.map((text, i) => ({
    ...text,
    share: shares[i]!,
    advantage: advantages[i]!,
    old: expected.old === null ? undefined : Float32Array.from(expected.old[i]!),
    reference: expected.beta === 0 ? undefined : reference[i]!,
  }));
}

describe.each(['grpo', 'dr_grpo', 'bnpo', 'fresh'])('%s', (name) => {
  // 2^23 elements of logits make a part, so the second has its picks padded.
  test.each([1, 5])('loss, KL, clip share and gradients, logits in %i parts', async (chunks) => {
    const expected = fixture.cases[name]!;
    const texts = await textsOf(expected);
    const loss = grpoLossSpec({
      beta: expected.beta,
      klCorrection: expected.kl_correction,
      epsilon: fixture.epsilon,
      steps: 1,
      maxTokens: 8,
      learningRate: 0,
      seed: 1,
    });
    const passTokens = (chunks * 2 ** 23) / model.config.vocabSize;
    const executor = await createExecutor({ model, lora, loss, rowLength: 16, passTokens, threads: 1 });
    expect(executor.chunks).toBe(chunks);
    const result = await executor.gradientPass(grpoPass(texts, chunks).feeds);
    expect(result.loss).toBeCloseTo(expected.loss, 4);
    const figures = passFigures(texts, splitByText(texts, result.logProbs ?? new Float32Array()), loss);
    expect(figures.tokens).toBe(fixture.completions.flat().length);
    expect(figures.kl / figures.tokens).toBeCloseTo(expected.kl, 4);
    expect(figures.clipped / figures.tokens).toBeCloseTo(expected.clip_share, 5);
    const errors = await gradientErrors(executor, `methods/grpo_${name}.safetensors`);
    expect(errors.length).toBe(28);
    expect(Math.max(...errors)).toBeLessThan(TOLERANCE);
    await executor.close();
  });
});
