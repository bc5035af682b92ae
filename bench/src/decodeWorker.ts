/**
 * Samples greedily from the SmolLM2-135M shape with random weights and answers with the seconds it took. Arguments: threads,
 * 'fp32' or '4-bit' (projections and head).
 */
import { createInterface } from 'node:readline';
import { initWeights } from '@tuneloop/engine/models/initWeights';
import { createSampler } from '@tuneloop/engine/sample/sampler';
import { quantizeModel } from '@tuneloop/engine/weights/quantize';
import { SMOLLM2_135M } from './shapes.ts';

export interface DecodeTask {
  readonly batch: number;
  /** Tokens of each prompt. */
  readonly prompt: number;
  /** Tokens drawn for each row. */
  readonly tokens: number;
}
export interface DecodeAnswer {
  readonly seconds: number;
  /** Processor time of all threads. */
  readonly cpuSeconds: number;
}

const threads = Number(process.argv[2]);
const float = { config: SMOLLM2_135M, weights: initWeights(SMOLLM2_135M, 1) };
const model = process.argv[3] === '4-bit' ? quantizeModel(float, { head: true, consume: true }) : float;
const sampler = createSampler({ model, threads, maxContext: 512, eosTokenIds: [] });

async function answer({ batch, prompt, tokens }: DecodeTask): Promise<DecodeAnswer> {
  const request = { prompt: Array.from({ length: prompt }, (_, i) => i + 1), maxTokens: tokens, temperature: 0 };
  const started = performance.now();
  const processor = process.cpuUsage();
  // Prompts that differ, so that none is read for another.
  const requests = Array.from({ length: batch }, (_, row) => ({
    ...request,
    prompt: [row, ...request.prompt.slice(1)],
  }));
  await Promise.all(requests.map((one) => sampler.generate(one)));
  const { user, system } = process.cpuUsage(processor);
  return { seconds: (performance.now() - started) / 1000, cpuSeconds: (user + system) / 1e6 };
}

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line) as DecodeTask)));
}
