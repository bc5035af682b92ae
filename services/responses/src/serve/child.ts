import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { describeError } from '@tuneloop/runtime/errors';
import type { Logger } from '@tuneloop/runtime/log';
import { z } from 'zod';

/** Large bases take a while to read and to build their sessions. */
const START_TIMEOUT_MS = 180_000;
/** Answers being given are finished within this; then the process is killed. */
const STOP_TIMEOUT_MS = 20_000;
const FIRST_BACKOFF_MS = 50;
const LAST_BACKOFF_MS = 5_000;
/** Failed starts in a row after which the supervisor gives up and says so. */
const MAX_FAILED_STARTS = 20;

const readyMessage = z.object({ type: z.literal('ready'), url: z.url() });

export interface ServeChildOptions {
  /** The whole environment of the process: `SERVE_MODELS`, `TUNELOOP_SECRET`, `BLOB_*`, and `PORT` when it is fixed. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Logger;
  /** Where its output goes; this process' own unless given. */
  readonly logFile?: string;
  /** Told the pid of each new process: after the start and after each restart. */
  readonly onStart?: (pid: number) => void;
}

export interface ServeChild {
  /** Stays the same over restarts. */
  readonly url: string;
  /** Of the process that runs now; that of the last one while it is down. */
  readonly pid: number;
  readonly restarts: number;
  stop(): Promise<void>;
}

/**
 * Runs the serve process and brings it up again on the same port whenever it dies.
 *
 *   running -> (dies) -> restarting -> running ... -> failed, after too many failed starts
 *   any state -> stop() -> stopped
 *
 * @throws Error when the first start fails
 */
export async function spawnServe(options: ServeChildOptions): Promise<ServeChild> {
  const first = await launch(options, options.env.PORT ?? '0');
  const port = new URL(first.url).port;
  let child = first.process;
  let restarts = 0;
  const stopping = new AbortController();
  options.onStart?.(child.pid!);

  const supervise = async (): Promise<void> => {
    for (;;) {
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      if (stopping.signal.aborted) return;
      options.log.error({ pid: child.pid, code: child.exitCode, signal: child.signalCode }, 'the model server died');
      const next = await relaunch(options, port, stopping.signal);
      if (!next) return;
      child = next;
      restarts++;
      options.onStart?.(child.pid!);
    }
  };
  const supervised = supervise();

  return {
    url: first.url,
    get pid() {
      return child.pid!;
    },
    get restarts() {
      return restarts;
    },
    async stop() {
      stopping.abort();
      await terminate(child);
      await supervised;
      // A restart may have been under way.
      await terminate(child);
    },
  };
}

async function relaunch(
  options: ServeChildOptions,
  port: string,
  stop: AbortSignal,
): Promise<ChildProcess | undefined> {
  let backoffMs = FIRST_BACKOFF_MS;
  for (let failed = 0; failed < MAX_FAILED_STARTS && !stop.aborted; failed++) {
    try {
      const next = await launch(options, port);
      if (!stop.aborted) return next.process;
      await terminate(next.process);
      return undefined;
    } catch (error) {
      options.log.warn({ reason: describeError(error), backoffMs }, 'the model server did not start again');
    }
    await delay(backoffMs, undefined, { signal: stop }).catch(() => undefined);
    backoffMs = Math.min(backoffMs * 2, LAST_BACKOFF_MS);
  }
  if (!stop.aborted) options.log.error({ attempts: MAX_FAILED_STARTS }, 'gave up on the model server');
  return undefined;
}

async function launch(options: ServeChildOptions, port: string): Promise<{ process: ChildProcess; url: string }> {
  const output = options.logFile === undefined ? undefined : openSync(options.logFile, 'a', 0o600);
  const child = fork(new URL('main.ts', import.meta.url), [], {
    env: { ...options.env, PORT: port },
    execArgv: [],
    stdio: ['ignore', output ?? 'inherit', output ?? 'inherit', 'ipc'],
    // Ctrl-C in a terminal goes to the parent alone, which then stops its children in order.
    detached: true,
  });
  if (output !== undefined) closeSync(output);
  const giveUp = new AbortController();
  const timer = setTimeout(() => giveUp.abort(new Error('no answer in time')), START_TIMEOUT_MS);
  try {
    const ready = once(child, 'message', { signal: giveUp.signal });
    const died = once(child, 'exit', { signal: giveUp.signal }).then(([code]) => {
      throw new Error(`the model server ended with status ${String(code)} before it was ready`);
    });
    const [message] = (await Promise.race([ready, died])) as unknown[];
    return { process: child, url: readyMessage.parse(message).url };
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  } finally {
    clearTimeout(timer);
    giveUp.abort();
  }
}

async function terminate(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
  await gone;
  clearTimeout(timer);
}
