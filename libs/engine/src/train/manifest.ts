/** What the numbers of a run depend on besides its data. */
import { readFileSync } from 'node:fs';
import { arch, cpus } from 'node:os';
import { env } from 'onnxruntime-node';
import type { EngineManifest, TrainingEstimate } from '../types.ts';
import type { ExecutorChoice } from './executor.ts';

/** Instruction sets that choose another matrix kernel, and so another rounding. */
const KERNEL_FLAGS = /^(avx|amx|fma|f16c|asimd|sve|i8mm|bf16|neon)/;

function cpuFlags(): string[] {
  try {
    const line = /^(?:flags|Features)\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'));
    return (line?.[1] ?? '').split(' ').filter((flag) => KERNEL_FLAGS.test(flag));
  } catch {
    return []; // Not Linux: the model's name has to do.
  }
}

/** The choice without its words. */
export function estimateOf({ reason: _reason, ...estimate }: ExecutorChoice): TrainingEstimate {
  return estimate;
}

export function engineManifest(threads: number, choice: ExecutorChoice): EngineManifest {
  return {
    executor: choice.executor,
    ...(choice.activations === undefined ? {} : { activations: choice.activations }),
    executorReason: choice.reason,
    ortVersion: env.versions.node ?? 'unknown',
    threads,
    cpu: { model: cpus()[0]?.model ?? 'unknown', arch: arch(), flags: cpuFlags() },
  };
}
