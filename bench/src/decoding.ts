import { fileURLToPath } from 'node:url';
import type { DecodeAnswer, DecodeTask } from './decodeWorker.ts';
import { LineProcess } from './lineProcess.ts';
import { median, type Result } from './result.ts';

const ROUNDS = 5;
const PROMPT = 16;
const TOKENS = 48;
const BATCHES = [1, 8] as const;
const WORKER = fileURLToPath(new URL('decodeWorker.ts', import.meta.url));
const REFERENCE = fileURLToPath(new URL('decode_reference.py', import.meta.url));

/**
 * Greedy decoding at the shape of SmolLM2-135M against Transformers' `generate`: by the clock on two threads, and in processor
 * time on one, which says the same on a machine that others use too.
 */
export async function benchDecoding(python: string): Promise<Result[]> {
  return [...(await compare(python, 2, 'seconds')), ...(await compare(python, 1, 'cpuSeconds'))];
}

async function compare(python: string, threads: number, measure: keyof DecodeAnswer): Promise<Result[]> {
  const reference = new LineProcess(python, [REFERENCE, String(threads)]);
  const sides = { fp32: workerOf(threads, 'fp32'), '4 bits': workerOf(threads, '4-bit') };
  const processes = [reference, ...Object.values(sides)];
  try {
    const { torch, transformers } = await reference.next<{ torch: string; transformers: string }>();
    for (const side of Object.values(sides)) await side.next();
    const results: Result[] = [];
    for (const batch of BATCHES) {
      const answers = processes.map((): DecodeAnswer[] => []);
      const task: DecodeTask = { batch, prompt: PROMPT, tokens: TOKENS };
      for (const side of processes) await side.ask(task);
      for (let round = 0; round < ROUNDS; round++) {
        for (const [i, side] of processes.entries()) answers[i]!.push(await side.ask<DecodeAnswer>(task));
      }
      const [theirs, ...ours] = answers.map((rounds) => median(rounds.map((answer) => answer[measure])));
      const clock = measure === 'seconds';
      const speed = (seconds: number): string =>
        clock
          ? `${((batch * TOKENS) / seconds).toFixed(1)} tokens/s`
          : `${((1000 * seconds) / TOKENS).toFixed(1)} ms of processor time a step`;
      for (const [i, name] of Object.keys(sides).entries()) {
        results.push({
          name: `engine: decoding, batch ${batch}, ${name}, ${clock ? 'speed' : 'processor time'}`,
          value: speed(ours[i]!),
          reference: `Transformers ${transformers} on PyTorch ${torch}, fp32, ${speed(theirs!)}`,
          ratio: theirs! / ours[i]!,
          method: `SmolLM2-135M shape, random weights, prompts of ${PROMPT} and ${TOKENS} greedy tokens a row, ${threads} threads; medians of ${ROUNDS} interleaved rounds after one; 4 bits: projections and head`,
        });
      }
    }
    return results;
  } finally {
    for (const side of processes) side.close();
  }
}

function workerOf(threads: number, weights: 'fp32' | '4-bit'): LineProcess {
  return new LineProcess(process.execPath, [WORKER, String(threads), weights]);
}
