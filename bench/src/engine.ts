import { initLora } from '@tuneloop/engine/adapters/lora';
import { initWeights } from '@tuneloop/engine/models/initWeights';
import { createTrainer } from '@tuneloop/engine/train/trainer';
import type { LoraConfig, ModelConfig } from '@tuneloop/engine/types';
import { gemmSeconds } from './gemm.ts';
import { benchDecoding } from './decoding.ts';
import { median, type Result } from './result.ts';
import { benchTraining } from './training.ts';

const THREADS = 2;
const ROUNDS = 3;
const STEPS = 12;
const ROWS = 16;
const LENGTH = 96;

/** Shape of the bundled model (models/nano). */
const NANO: ModelConfig = {
  hiddenSize: 128,
  intermediateSize: 344,
  numLayers: 4,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 32,
  vocabSize: 768,
  maxPositions: 256,
  rmsNormEps: 1e-5,
  ropeTheta: 10_000,
  tieWordEmbeddings: true,
};

const LORA: LoraConfig = {
  r: 8,
  alpha: 16,
  targets: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
  dropout: 0,
};

/** Matrix parameters that a token goes through: 2 FLOP each forward, twice that backward (weights frozen: once). */
function matrixParameters(config: ModelConfig): number {
  const { hiddenSize: h, headDim: d } = config;
  const attention = h * d * (2 * config.numHeads + 2 * config.numKvHeads);
  return config.numLayers * (attention + 3 * h * config.intermediateSize) + config.vocabSize * h;
}

async function trainingSpeed(): Promise<number> {
  const model = { config: NANO, weights: initWeights(NANO, 1) };
  const data = Array.from({ length: ROWS * STEPS }, (_, row) => ({
    ids: Array.from({ length: LENGTH }, (_unused, i) => (row * 31 + i * 17) % NANO.vocabSize),
    lossWeights: new Float32Array(LENGTH).fill(1),
  }));
  const trainer = await createTrainer({
    model,
    lora: initLora(NANO, LORA, 1),
    task: 'sft',
    data,
    threads: THREADS,
    hyper: { epochs: 1, batchSize: ROWS, maxLength: LENGTH, learningRate: 1e-3, seed: 1 },
  });
  const result = await trainer.run();
  return result.tokens / result.seconds;
}

/** A Python with torch, transformers and peft (bench/requirements.txt), for comparison. */
const PYTHON = process.env.TUNELOOP_BENCH_PYTHON;

export async function benchEngine(): Promise<Result[]> {
  const results = [await benchNano()];
  if (PYTHON === undefined) {
    console.error('No comparison with PyTorch: set TUNELOOP_BENCH_PYTHON to a Python with bench/requirements.txt.');
    return results;
  }
  return [...results, ...(await benchTraining(PYTHON)), ...(await benchDecoding(PYTHON))];
}

/** LoRA training speed at the bundled model's shape against what its matrix products alone would take. */
async function benchNano(): Promise<Result> {
  const speeds: number[] = [];
  const peaks: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const { hiddenSize, intermediateSize } = NANO;
    const seconds = await gemmSeconds(ROWS * LENGTH, intermediateSize, hiddenSize, THREADS);
    peaks.push((2 * ROWS * LENGTH * hiddenSize * intermediateSize) / seconds);
    speeds.push(await trainingSpeed());
  }
  // Forward 2N, backward through the activations 2N: the base's weights have no gradient.
  const bound = median(peaks) / (4 * matrixParameters(NANO));
  const speed = median(speeds);
  return {
    name: 'engine: LoRA SFT, nano shape',
    value: `${speed.toFixed(0)} tokens/s`,
    reference: `GEMM bound of the same runtime, ${bound.toFixed(0)} tokens/s`,
    ratio: speed / bound,
    method: `${ROWS}x${LENGTH} tokens a step, r ${LORA.r} on all projections, ${THREADS} threads, medians of ${ROUNDS} interleaved rounds; bound = measured GEMM FLOP/s at the MLP's shape / 4N`,
  };
}
