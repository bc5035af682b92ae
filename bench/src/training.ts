import { fileURLToPath } from 'node:url';
import { projectionShape } from '@tuneloop/engine/models/llama';
import { LORA_TARGETS } from '@tuneloop/engine/types';
import { gemmSeconds } from './gemm.ts';
import { LineProcess } from './lineProcess.ts';
import { median, type Result } from './result.ts';
import { SMOLLM2_135M } from './shapes.ts';
import type { TrainingAnswer, TrainingTask } from './trainingWorker.ts';

const THREADS = 2;
const ROUNDS = 3;
const STEPS = 2;
const WARMUP = 1;
/** Rows and tokens of a step. */
const STEP_SIZES = [
  [4, 128],
  [2, 256],
  [1, 512],
] as const;
const WORKER = fileURLToPath(new URL('trainingWorker.ts', import.meta.url));
const REFERENCE = fileURLToPath(new URL('training_reference.py', import.meta.url));
const MIB = 2 ** 20;

interface Side {
  readonly speed: number;
  readonly peakRssBytes: number;
}

/** LoRA training at the shape of SmolLM2-135M against PyTorch with PEFT, each side a process of its own. */
export async function benchTraining(python: string): Promise<Result[]> {
  const results: Result[] = [];
  for (const [batch, length] of STEP_SIZES) results.push(...(await benchStepSize(python, batch, length)));
  return results;
}

async function benchStepSize(python: string, batch: number, length: number): Promise<Result[]> {
  const reference = new LineProcess(python, [REFERENCE, String(THREADS)]);
  const whole = new LineProcess(process.execPath, [WORKER, String(THREADS), 'whole-graph']);
  const saving = new LineProcess(process.execPath, [WORKER, String(THREADS), 'layer-wise', 'save']);
  const recomputing = new LineProcess(process.execPath, [WORKER, String(THREADS), 'layer-wise', 'recompute']);
  const sides = [reference, whole, saving, recomputing];
  try {
    const { torch, peft } = await reference.next<{ torch: string; peft: string }>();
    for (const side of [whole, saving, recomputing]) await side.next();
    const task: TrainingTask = { batch, length, warmup: WARMUP, steps: STEPS };
    const answers: TrainingAnswer[][] = sides.map(() => []);
    const bounds: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      bounds.push(await gemmBound(batch * length));
      for (const [i, side] of sides.entries()) answers[i]!.push(await side.ask<TrainingAnswer>(task));
    }
    const [theirs, ...ours] = answers.map(
      (rounds): Side => ({
        speed: (batch * length) / median(rounds.flatMap(({ seconds }) => seconds)),
        // Of the first round: a later one finds what the earlier left in the allocator.
        peakRssBytes: rounds[0]!.peakRssBytes,
      }),
    );
    const name = `PyTorch ${torch} with PEFT ${peft}`;
    const method = `SmolLM2-135M shape, random weights, r 16 on all projections, fp32, ${THREADS} threads; medians of ${ROUNDS} interleaved rounds of ${STEPS} steps after ${WARMUP}`;
    return reports(`${batch}x${length}`, name, method, median(bounds), theirs!, ours);
  } finally {
    for (const side of sides) side.close();
  }
}

const PATHS = ['whole graph', 'layer by layer, activations saved', 'layer by layer, recomputed'] as const;

function reports(
  size: string,
  reference: string,
  method: string,
  bound: number,
  theirs: Side,
  ours: readonly Side[],
): Result[] {
  const speed = (value: number): string => `${value.toFixed(0)} tokens/s`;
  const memory = (bytes: number): string => `${(bytes / MIB).toFixed(0)} MiB`;
  const compared = PATHS.flatMap((path, i): Result[] => [
    {
      name: `engine: LoRA SFT ${size}, ${path}, speed`,
      value: speed(ours[i]!.speed),
      reference: `${reference}, ${speed(theirs.speed)}`,
      ratio: ours[i]!.speed / theirs.speed,
      method,
    },
    {
      name: `engine: LoRA SFT ${size}, ${path}, peak memory`,
      value: memory(ours[i]!.peakRssBytes),
      reference: `${reference}, ${memory(theirs.peakRssBytes)}`,
      ratio: ours[i]!.peakRssBytes / theirs.peakRssBytes,
      method,
    },
  ]);
  return [
    ...compared,
    {
      name: `engine: LoRA SFT ${size}, whole graph, share of the GEMM peak`,
      value: speed(ours[0]!.speed),
      reference: `4N FLOP a token at the runtime's best GEMM speed among the model's shapes, ${speed(bound)}`,
      ratio: ours[0]!.speed / bound,
      method: `${method}; 4N: forward and backward to the activations through each projection and the head`,
    },
  ];
}

/** Tokens per second if a step were only the base's matrix products, each at the speed of the fastest of them. */
async function gemmBound(tokens: number): Promise<number> {
  const { hiddenSize, numLayers, vocabSize } = SMOLLM2_135M;
  let parameters = vocabSize * hiddenSize;
  let peak = 0;
  for (const target of LORA_TARGETS) {
    const [out, inputs] = projectionShape(SMOLLM2_135M, target);
    parameters += numLayers * out * inputs;
    const seconds = await gemmSeconds(tokens, out, inputs, THREADS);
    peak = Math.max(peak, (2 * tokens * out * inputs) / seconds);
  }
  return peak / (4 * parameters);
}
