import type { ModelConfig } from '@tuneloop/engine/types';

/** Sizes of the nano base: what its config.json says and what its training script builds. */
export const VOCABULARY = 768;
export const MAX_POSITIONS = 256;

/** A Llama of 0.82 million parameters. */
export const BASE_CONFIG: ModelConfig = {
  hiddenSize: 128,
  intermediateSize: 344,
  numLayers: 4,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 32,
  vocabSize: VOCABULARY,
  maxPositions: MAX_POSITIONS,
  rmsNormEps: 1e-5,
  ropeTheta: 10_000,
  tieWordEmbeddings: true,
};

/** How the base was trained (bin/trainBase.ts). */
export const BASE_TRAINING = {
  corpusSeed: 11,
  /** Texts, each seen once: 51 tokens each on average. */
  examples: 300_000,
  /** Tokens of a packed row, and rows of an optimiser step. */
  rowTokens: 256,
  rows: 24,
  learningRate: 3e-3,
  finalRatio: 0.02,
  warmupRatio: 0.03,
  weightDecay: 0.1,
  betas: [0.9, 0.98],
  /** Deviation of the initial matrices: 1 / sqrt(hidden size). */
  initRange: 0.088,
  seed: 1,
} as const;

/** Sampling of candidates and of fresh samples in evaluation. */
export const SAMPLING = { temperature: 1, topP: 0.99, maxTokens: 48 } as const;

/** The adapter of the sample project. */
export const ADAPTER = {
  r: 8,
  alpha: 16,
  targets: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
  dropout: 0,
} as const;

/** Preference training of the sample project (docs/lab.md says what else was tried). */
export const TRAINING = {
  epochs: 8,
  batchSize: 16,
  maxLength: MAX_POSITIONS,
  learningRate: 2e-3,
  schedule: 'cosine',
  warmupRatio: 0.1,
  betas: [0.9, 0.99],
  maxGradNorm: 1,
  dpo: { beta: 1, nllWeight: 3, labelSmoothing: 0.03 },
} as const;
