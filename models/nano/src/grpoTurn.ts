import { initLora } from '@tuneloop/engine/adapters/lora';
import { createSampler } from '@tuneloop/engine/sample/sampler';
import { createGrpoTrainer } from '@tuneloop/engine/train/grpoTrainer';
import type { GrpoHyper, LoraWeights, TrainProgress } from '@tuneloop/engine/types';
import { formatPrompt } from './chatFormat.ts';
import { describeAttributes } from './facts.ts';
import { parseCaption, type Style } from './grammar.ts';
import type { LabModel } from './labTurn.ts';
import { samplePictures } from './pictures.ts';
import { createRandom } from './random.ts';
import { ADAPTER, SAMPLING } from './recipe.ts';
import { wrongAttributes } from './taste.ts';
import type { Attributes } from './world.ts';

/**
 * Reinforcement learning without a reviewer: the reward is checked by program, 1 for a caption of one named style that states
 * nothing wrong, else 0. The base writes five styles alike and states 0.37 wrong attributes a caption, so it begins at about 0.1.
 */
export interface GrpoTurn {
  readonly style: Style;
  readonly seed: number;
  readonly hyper: Omit<GrpoHyper, 'seed'>;
  readonly trainPrompts: number;
  /** Prompts that training never sees. */
  readonly testPrompts: number;
  /** Samples of each test prompt, before and after. */
  readonly fresh: number;
}

export interface GrpoFigures {
  /** Mean reward of each step's samples. */
  readonly curve: readonly number[];
  /** Share of rewarded fresh samples on the test prompts, before and after. */
  readonly before: number;
  readonly after: number;
  /** Of the training alone. */
  readonly seconds: number;
}

interface Prompt {
  readonly facts: Attributes;
  readonly ids: number[];
}

/** The recipe whose figures are in docs/lab.md. */
export const GRPO_TRAINING: Omit<GrpoHyper, 'seed'> = {
  steps: 100,
  promptsPerStep: 8,
  groupSize: 8,
  maxTokens: SAMPLING.maxTokens,
  learningRate: 2e-3,
  betas: [0.9, 0.99],
};

export function styleReward(style: Style, facts: Attributes, caption: string): number {
  return parseCaption(caption).style === style && wrongAttributes(facts, caption).length === 0 ? 1 : 0;
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

export async function runGrpoTurn(
  model: LabModel,
  turn: GrpoTurn,
  onProgress?: (progress: TrainProgress) => void,
): Promise<GrpoFigures> {
  const { base, tokenizer, threads } = model;
  const prompts = drawPrompts(model, turn);
  const train = prompts.slice(0, turn.trainPrompts);
  const test = prompts.slice(turn.trainPrompts);
  const before = await testReward(model, turn, test);
  const curve: number[] = [];
  const trainer = await createGrpoTrainer({
    model: base,
    tokenizer,
    threads,
    lora: initLora(base.config, ADAPTER, turn.seed),
    prompts: train.map(({ ids }) => ids),
    reward: (rollouts) =>
      rollouts.map(({ promptIndex, text = '' }) => styleReward(turn.style, train[promptIndex]!.facts, text)),
    hyper: { ...turn.hyper, seed: turn.seed },
    onProgress: (progress) => {
      curve.push(progress.reward ?? 0);
      onProgress?.(progress);
    },
  });
  const { lora, seconds } = await trainer.run();
  return { curve, before, after: await testReward(model, turn, test, lora), seconds };
}

function drawPrompts({ tokenizer }: LabModel, turn: GrpoTurn): Prompt[] {
  const random = createRandom(`grpo/${turn.seed}`);
  return samplePictures(turn.trainPrompts + turn.testPrompts, 5000 + turn.seed).map(({ attributes }) => {
    const quality = (0.3 + 0.7 * random.next()).toFixed(2);
    const ids = tokenizer.encode(formatPrompt(`${describeAttributes(attributes)}\nQuality: ${quality}`));
    return { facts: attributes, ids };
  });
}

async function testReward(
  model: LabModel,
  turn: GrpoTurn,
  test: readonly Prompt[],
  lora?: LoraWeights,
): Promise<number> {
  const { base, tokenizer, threads } = model;
  const sampler = createSampler({ model: base, tokenizer, threads, maxBatch: 64 });
  try {
    if (lora !== undefined) sampler.addAdapter('trained', lora);
    const rewards = await Promise.all(
      test.map(async ({ facts, ids }, i) => {
        const request = {
          prompt: ids,
          maxTokens: SAMPLING.maxTokens,
          temperature: 1,
          seed: turn.seed * 1_000_000 + 1000 * i,
        };
        const adapter = lora === undefined ? {} : { adapter: 'trained' };
        const answers = await sampler.generateMany({ ...request, ...adapter }, turn.fresh);
        return answers.map(({ text = '' }) => styleReward(turn.style, facts, text));
      }),
    );
    return mean(rewards.flat());
  } finally {
    await sampler.close();
  }
}
