import { execFileSync } from 'node:child_process';
import { closeSync, fstatSync, openSync, readFileSync, readSync, renameSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** How often a condition about another process is looked at. */
const POLL_MS = 10;

/** A log file larger than this is set aside (one generation kept) at the next start. */
const LOG_ROTATE_BYTES = 10 * 1024 * 1024;

/** How much of a log's end goes into an error message. */
const LOG_TAIL_BYTES = 4096;

/** The system's code of a failed call, such as `ENOENT`. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: it runs, as someone else.
    return errorCode(error) === 'EPERM';
  }
  return !isZombie(pid);
}

/** A killed child that nobody has reaped still answers signal 0, but holds nothing any more. */
function isZombie(pid: number): boolean {
  return process.platform === 'linux' && linuxStat(pid)?.state === 'Z';
}

function linuxStat(pid: number): { state: string; startTicks: string } | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The command in parentheses may itself hold spaces and parentheses, so fields are counted from the last one.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0] ?? '', startTicks: fields[19] ?? '' };
}

/**
 * What tells a process from a later one that got the same pid: its start time. Undefined when it has ended or the
 * platform does not say.
 */
export function processStartTime(pid: number): string | undefined {
  if (process.platform === 'linux') return linuxStat(pid)?.startTicks;
  if (process.platform === 'win32') return undefined;
  try {
    return execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim() || undefined;
  } catch {
    return undefined;
  }
}

/** Resolves true as soon as the condition holds, false when it still does not after the timeout. */
export async function waitUntil(condition: () => boolean | Promise<boolean>, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    if (await condition()) return true;
    if (performance.now() > deadline) return false;
    await delay(POLL_MS);
  }
}

/** Signals of a shutdown in turn, each with the time that the process has to obey it. */
export type StopSteps = readonly [StopStep, ...StopStep[]];

export interface StopStep {
  signal: NodeJS.Signals;
  waitMs: number;
}

/**
 * Sends signals in turn until the process has ended: each step's signal, then up to its time to obey.
 *
 * @throws when the process outlives the last step
 */
export async function stopProcess(pid: number, steps: StopSteps): Promise<void> {
  for (const { signal, waitMs } of steps) {
    try {
      process.kill(pid, signal);
    } catch (error) {
      if (errorCode(error) === 'ESRCH') return;
      throw error;
    }
    if (await waitUntil(() => !isAlive(pid), waitMs)) return;
  }
  throw new Error(`process ${pid} did not stop`);
}

/** Opens a child's log for appending; what is already in it stays unless it has grown past the bound. */
export function openChildLog(path: string): { fd: number; tail(): string; close(): void } {
  if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > LOG_ROTATE_BYTES) renameSync(path, `${path}.1`);
  const fd = openSync(path, 'a+', 0o600);
  const startedAt = fstatSync(fd).size;
  return {
    fd,
    tail() {
      const size = fstatSync(fd).size;
      const from = Math.max(startedAt, size - LOG_TAIL_BYTES);
      const bytes = Buffer.alloc(size - from);
      const read = readSync(fd, bytes, 0, bytes.length, from);
      return bytes.subarray(0, read).toString('utf8').trim();
    },
    close() {
      closeSync(fd);
    },
  };
}

/** A TCP port on 127.0.0.1 that is free now. Someone may take it before it is used: retry on "address in use". */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: '127.0.0.1', port: 0 }, resolve);
  });
  const address = server.address();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  if (address === null || typeof address === 'string') throw new Error('the system gave no port');
  return address.port;
}
