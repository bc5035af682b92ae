import { readFileSync } from 'node:fs';
import type { Result } from './result.ts';
import type { BenchStack } from './stack.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** Resident memory in bytes; Linux only. */
function residentBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) * KIB;
}

/** Resident memory of the stack when nothing happens, against a bare Node process of the same build. */
export function benchMemory(stack: BenchStack, bareNodeBytes: number): Result[] {
  const parts = Object.entries(stack.pids())
    .filter(([name]) => name !== 'postgres')
    .map(([name, pid]) => [name, residentBytes(pid) / MIB] as const);
  const total = parts.reduce((sum, [, mib]) => sum + mib, 0);
  return [
    {
      name: 'idle memory of the stack',
      value: `${total.toFixed(0)} MiB`,
      reference: `a bare Node process, ${(bareNodeBytes / MIB).toFixed(0)} MiB`,
      ratio: (total * MIB) / bareNodeBytes,
      method: `resident sizes of ${parts.map(([name, mib]) => `${name} ${mib.toFixed(0)}`).join(', ')}; Postgres left out, its processes share memory`,
    },
  ];
}
