/** Where to start: settings that work for LoRA on small open models, for each method. Only GRPO's are applied by themselves. */
import { type GrpoHyper, LORA_TARGETS, type LoraConfig, type TrainerOptions, type TrainingHyper } from '../types.ts';

/** The adapter for every method: all projections, alpha twice the rank (https://arxiv.org/abs/2405.09673, section 4.2). */
export const LORA_DEFAULTS = {
  r: 16,
  alpha: 32,
  targets: LORA_TARGETS,
  dropout: 0,
} as const satisfies LoraConfig;

const COMMON = {
  epochs: 3,
  batchSize: 8,
  gradientAccumulation: 1,
  schedule: 'cosine',
  warmupRatio: 0.1,
  weightDecay: 0,
  maxGradNorm: 1,
} as const;

/**
 * By method; `maxLength` and `seed` are the caller's. Adapters take about ten times the rate of full training, preferences less
 * than texts: DPO and KTO move far from the reference at once when the rate is high.
 */
export const TRAINING_DEFAULTS = {
  sft: { ...COMMON, learningRate: 2e-4 },
  dpo: { ...COMMON, learningRate: 5e-5, dpo: { beta: 0.1, nllWeight: 0, labelSmoothing: 0 } },
  kto: { ...COMMON, learningRate: 5e-5, kto: { beta: 0.1 } },
  reward: { ...COMMON, learningRate: 1e-4, reward: { centre: 0.01 } },
} as const satisfies Record<TrainerOptions['task'], Omit<TrainingHyper, 'maxLength' | 'seed'>>;

/** What `createGrpoTrainer` takes where nothing is said, but for the rate; `steps`, `maxTokens` and `seed` are the caller's. */
export const GRPO_DEFAULTS = {
  promptsPerStep: 4,
  groupSize: 8,
  numIterations: 1,
  lossType: 'grpo',
  scaleRewards: 'group',
  beta: 0,
  klCorrection: true,
  epsilon: 0.2,
  learningRate: 1e-4,
  schedule: 'constant',
  maxGradNorm: 1,
} as const satisfies Omit<GrpoHyper, 'steps' | 'maxTokens' | 'seed'>;
