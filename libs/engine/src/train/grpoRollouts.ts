/** The sampling half of a GRPO step: prompts in turn, groups of completions by the engine's own sampler, rewards. */
import { EngineError } from '../errors.ts';
import { createRandom } from '../random.ts';
import { createSampler, type Sampler } from '../sample/sampler.ts';
import type { GrpoHyper, LoraWeights, TokenIds } from '../types.ts';
import { GRPO_DEFAULTS } from './defaults.ts';
import type { GrpoTrainerOptions, Rollout } from './grpoTypes.ts';
import { shuffle } from './plan.ts';
import { mean } from './task.ts';

/** Sequences decoded together: more gain little on few cores, and each holds a key-value cache. */
const MAX_BATCH = 64;
/** Steps start their seeds this far apart in a space of 2^32. */
const STEP_SEEDS = 1_000_003;

export const groupSizeOf = (hyper: GrpoHyper): number => hyper.groupSize ?? GRPO_DEFAULTS.groupSize;
export const promptsPerStepOf = (hyper: GrpoHyper): number => hyper.promptsPerStep ?? GRPO_DEFAULTS.promptsPerStep;

/** Indices of a step's prompts: all of them in a new order each time round, whatever step a run resumes from. */
export function stepPrompts(count: number, hyper: GrpoHyper, step: number): number[] {
  const perStep = promptsPerStepOf(hyper);
  const orders = new Map<number, number[]>();
  return Array.from({ length: perStep }, (_, i) => {
    const place = step * perStep + i;
    const round = Math.floor(place / count);
    let order = orders.get(round);
    if (order === undefined) {
      const indices = Array.from({ length: count }, (_unused, index) => index);
      order = shuffle(indices, createRandom(hyper.seed * STEP_SEEDS + round));
      orders.set(round, order);
    }
    return order[place % count]!;
  });
}

/** Seed of the first completion of a step's prompt `i`; the others of its group follow. */
function seedOf(hyper: GrpoHyper, step: number, i: number): number {
  const stepSeed = (hyper.seed * STEP_SEEDS + step) % 2 ** 32;
  return (stepSeed * promptsPerStepOf(hyper) + i) * groupSizeOf(hyper);
}

/** Seeds of held-out completions begin here, above those of any step: the same at each evaluation. */
const HELD_OUT_SEEDS = 2 ** 46;

interface Wanted {
  readonly promptIndex: number;
  readonly prompt: TokenIds;
  /** Of the first completion; the others follow. */
  readonly seed: number;
}

/** Samples and judges. Its results depend on the adapter, the step and the seed alone. */
export class RolloutSource {
  readonly #options: GrpoTrainerOptions;
  readonly #sampler: Sampler;

  constructor(options: GrpoTrainerOptions, maxContext: number) {
    const { model, tokenizer, eosTokenIds, threads, hyper } = options;
    this.#options = options;
    this.#sampler = createSampler({
      model,
      maxContext,
      maxBatch: Math.min(MAX_BATCH, promptsPerStepOf(hyper) * groupSizeOf(hyper)),
      ...(tokenizer && { tokenizer }),
      ...(eosTokenIds && { eosTokenIds }),
      ...(threads !== undefined && { threads }),
    });
  }

  /** Completions of a step, group by group, from the model itself: temperature 1, no cuts, no penalties. */
  async sample(step: number, lora: LoraWeights): Promise<Rollout[]> {
    const { prompts, hyper, signal } = this.#options;
    const wanted = stepPrompts(prompts.length, hyper, step).map(
      (promptIndex, i): Wanted => ({ promptIndex, prompt: prompts[promptIndex]!, seed: seedOf(hyper, step, i) }),
    );
    return this.#complete(`step ${step}`, lora, wanted, groupSizeOf(hyper), signal);
  }

  /** Mean reward of completions of the held-out prompts. It belongs to its step: a cancelled run finishes it. */
  async evaluate(lora: LoraWeights): Promise<number> {
    const { prompts = [], samples = 1 } = this.#options.evaluation ?? {};
    const wanted = prompts.map(
      (prompt, promptIndex): Wanted => ({ promptIndex, prompt, seed: HELD_OUT_SEEDS + promptIndex * samples }),
    );
    const rollouts = await this.#complete('held out', lora, wanted, samples);
    return mean(await this.judge(rollouts.map((rollout): Rollout => ({ ...rollout, heldOut: true }))));
  }

  async #complete(
    adapter: string,
    lora: LoraWeights,
    wanted: readonly Wanted[],
    count: number,
    signal?: AbortSignal,
  ): Promise<Rollout[]> {
    const { maxTokens } = this.#options.hyper;
    this.#sampler.addAdapter(adapter, lora);
    try {
      const groups = await Promise.all(
        wanted.map(async ({ promptIndex, prompt, seed }) => {
          const request = { prompt, maxTokens, adapter, seed, temperature: 1, ...(signal && { signal }) };
          const answers = await this.#sampler.generateMany(request, count);
          return answers.map(({ tokens, text, finishReason }): Rollout => {
            const rollout = { promptIndex, prompt, completion: tokens, finishReason };
            return text === undefined ? rollout : { ...rollout, text };
          });
        }),
      );
      return groups.flat();
    } finally {
      this.#sampler.removeAdapter(adapter);
    }
  }

  /** @throws EngineError `engine.train.bad_reward`; what the reward function throws */
  async judge(rollouts: readonly Rollout[]): Promise<readonly number[]> {
    const heldOut = rollouts[0]?.heldOut === true;
    const rewards = await this.#options.reward(rollouts, heldOut ? undefined : this.#options.signal);
    if (rewards.length !== rollouts.length) {
      const message = `the reward function gave ${rewards.length} rewards for ${rollouts.length} completions`;
      throw new EngineError('engine.train.bad_reward', message);
    }
    const wrong = rewards.findIndex((reward) => !Number.isFinite(reward));
    if (wrong >= 0) {
      const message = `the reward of completion ${wrong} is ${rewards[wrong]}: rewards must be finite numbers`;
      throw new EngineError('engine.train.bad_reward', message);
    }
    return rewards;
  }

  async close(): Promise<void> {
    await this.#sampler.close();
  }
}
