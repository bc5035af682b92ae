import { LORA_TARGETS, type LoraConfig, type ModelConfig } from '@tuneloop/engine/types';

/** What the engine is measured on beside the bundled model: a shape that people fine-tune for real, with random weights. */
export const SMOLLM2_135M: ModelConfig = {
  hiddenSize: 576,
  intermediateSize: 1536,
  numLayers: 30,
  numHeads: 9,
  numKvHeads: 3,
  headDim: 64,
  vocabSize: 49_152,
  maxPositions: 2048,
  rmsNormEps: 1e-5,
  ropeTheta: 10_000,
  tieWordEmbeddings: true,
};

export const SMOLLM2_LORA: LoraConfig = { r: 16, alpha: 32, targets: LORA_TARGETS, dropout: 0 };
