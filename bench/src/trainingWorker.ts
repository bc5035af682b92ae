/**
 * Trains an adapter on the SmolLM2-135M shape with random weights and answers with the seconds of each step: a process
 * of its own, so that its peak memory is its own. Arguments: threads, executor, activations.
 */
import { createInterface } from 'node:readline';
import { initLora } from '@tuneloop/engine/adapters/lora';
import { initWeights } from '@tuneloop/engine/models/initWeights';
import { createTrainer } from '@tuneloop/engine/train/trainer';
import type { ActivationPolicy, ExecutorKind } from '@tuneloop/engine/types';
import { SMOLLM2_135M, SMOLLM2_LORA } from './shapes.ts';

export interface TrainingTask {
  readonly batch: number;
  readonly length: number;
  readonly warmup: number;
  readonly steps: number;
}
export interface TrainingAnswer {
  readonly seconds: readonly number[];
  readonly peakRssBytes: number;
}

const threads = Number(process.argv[2]);
const executor = process.argv[3] as ExecutorKind;
const activations = process.argv[4] as ActivationPolicy | undefined;
const model = { config: SMOLLM2_135M, weights: initWeights(SMOLLM2_135M, 1) };

async function answer({ batch, length, warmup, steps }: TrainingTask): Promise<TrainingAnswer> {
  const data = Array.from({ length: batch * (warmup + steps) }, (_, row) => ({
    ids: Int32Array.from({ length }, (_unused, i) => ((row * length + i) * 17) % SMOLLM2_135M.vocabSize),
    lossWeights: new Float32Array(length).fill(1),
  }));
  const ends: number[] = [];
  const trainer = await createTrainer({
    task: 'sft',
    model,
    lora: initLora(SMOLLM2_135M, SMOLLM2_LORA, 1),
    data,
    threads,
    executor,
    ...(activations === undefined ? {} : { activations }),
    hyper: { epochs: 1, batchSize: batch, maxLength: length, learningRate: 1e-4, seed: 1 },
    onProgress: () => ends.push(performance.now()),
  });
  await trainer.run();
  const seconds = ends.slice(warmup).map((end, i) => (end - ends[warmup + i - 1]!) / 1000);
  return { seconds, peakRssBytes: process.resourceUsage().maxRSS * 1024 };
}

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line) as TrainingTask)));
}
