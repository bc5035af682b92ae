import type { hyperparameters } from '@tuneloop/contracts/scheduler/events';
import type { LoraTarget, TrainingHyper } from '@tuneloop/engine/types';
import { ADAPTER as NANO_ADAPTER, SAMPLING as NANO_SAMPLING, TRAINING as NANO_TRAINING } from '@tuneloop/nano/recipe';
import type { z } from 'zod';
import type { LocalMethod } from './job.ts';

/**
 * Defaults of each method. What a job does not say is taken from here, and all of it is frozen into the job's
 * `settings` when its first worker starts.
 *
 * | | sft | dpo |
 * | --- | --- | --- |
 * | epochs | 3 | 3 |
 * | batch size | 8 | 8 |
 * | learning rate | 2e-4 | 5e-5 |
 * | longest example, tokens | 1024 | 1024 |
 * | LoRA r, alpha | 16, 32 | 16, 32 |
 * | beta, NLL weight | | 0.1, 0.1 |
 *
 * The sample model `nano` has its own, chosen by experiment (models/nano/src/recipe.ts).
 *
 * Everywhere: cosine schedule with 10% warm-up, gradients clipped to norm 1, all seven projections adapted, no
 * dropout and no decay. DPO keeps an NLL term on the preferred text: without it the margin grows and samples do not
 * get better. SFT divides by a constant, so that an example counts the same in whichever batch it falls.
 */
export interface TrainingSettings {
  readonly hyper: TrainingHyper;
  readonly lora: { readonly r: number; readonly alpha: number; readonly targets: readonly LoraTarget[] };
}
export type Hyperparameters = z.output<typeof hyperparameters>;

const TARGETS: readonly LoraTarget[] = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];
const LORA = { r: 16, alpha: 32, targets: TARGETS };

const SFT: Omit<TrainingHyper, 'seed'> = {
  epochs: 3,
  batchSize: 8,
  maxLength: 1024,
  learningRate: 2e-4,
  schedule: 'cosine',
  warmupRatio: 0.1,
  maxGradNorm: 1,
  lossDivisor: 'constant',
};

const DPO: Omit<TrainingHyper, 'seed'> = {
  epochs: 3,
  batchSize: 8,
  maxLength: 1024,
  learningRate: 5e-5,
  schedule: 'cosine',
  warmupRatio: 0.1,
  maxGradNorm: 1,
  dpo: { beta: 0.1, nllWeight: 0.1 },
};

const NANO_SFT: Omit<TrainingHyper, 'seed'> = { ...NANO_TRAINING, lossDivisor: 'constant' };

function methodDefaults(baseModel: string, method: LocalMethod): Omit<TrainingHyper, 'seed'> {
  if (baseModel === 'nano') return method === 'dpo' ? NANO_TRAINING : NANO_SFT;
  return method === 'dpo' ? DPO : SFT;
}

/**
 * The settings of a job: the method's defaults with the job's own words over them.
 * @param maxPositions of the base model, which bounds the length of an example
 */
export function resolveSettings(
  job: { readonly baseModel: string; readonly method: LocalMethod; readonly seed: number },
  asked: Hyperparameters,
  maxPositions: number,
): TrainingSettings {
  const defaults = methodDefaults(job.baseModel, job.method);
  const { dpo: dpoDefaults, ...rest } = defaults;
  const dpo = {
    ...dpoDefaults,
    ...(asked.beta === undefined ? {} : { beta: asked.beta }),
    ...(asked.nll_weight === undefined ? {} : { nllWeight: asked.nll_weight }),
  };
  const adapter = job.baseModel === 'nano' ? NANO_ADAPTER : LORA;
  const r = asked.lora_r ?? adapter.r;
  return {
    hyper: {
      ...rest,
      epochs: asked.n_epochs ?? defaults.epochs,
      batchSize: asked.batch_size ?? defaults.batchSize,
      learningRate: asked.learning_rate ?? defaults.learningRate,
      maxLength: Math.min(asked.max_length ?? defaults.maxLength, maxPositions),
      seed: job.seed,
      ...(job.method === 'dpo' ? { dpo } : {}),
    },
    // The scale alpha / r stays what the defaults say when only the rank is given.
    lora: { r, alpha: asked.lora_alpha ?? (adapter.alpha / adapter.r) * r, targets: adapter.targets },
  };
}

/** OpenAI's multiplier is of the method's default rate. */
export function scaledLearningRate(baseModel: string, method: LocalMethod, multiplier: number): number {
  return methodDefaults(baseModel, method).learningRate * multiplier;
}

/** Nucleus of evaluation samples: the sample model's rare tail is noise, others are sampled as they are. */
export function evaluationTopP(baseModel: string): number {
  return baseModel === 'nano' ? NANO_SAMPLING.topP : 1;
}
