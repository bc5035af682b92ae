import type { EventEmitter } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError, describeError } from './errors.ts';
import type { Logger } from './log.ts';

const DEFAULT_START_TIMEOUT_MS = 60_000;
const DEFAULT_STOP_TIMEOUT_MS = 10_000;

export interface LifecyclePart {
  start?(): void | Promise<unknown>;
  stop?(): void | Promise<unknown>;
  readonly startTimeoutMs?: number;
  readonly stopTimeoutMs?: number;
}

/** How the stop went: names of the parts that failed or did not finish in time. */
export interface StopReport {
  readonly failed: readonly string[];
  readonly hung: readonly string[];
}

type Outcome = 'done' | 'hung';

async function within(work: () => void | Promise<unknown>, timeoutMs: number): Promise<Outcome> {
  const timer = new AbortController();
  const limit = delay(timeoutMs, 'hung' as const, { signal: timer.signal });
  limit.catch(() => undefined);
  try {
    return await Promise.race([Promise.resolve(work()).then(() => 'done' as const), limit]);
  } finally {
    timer.abort();
  }
}

/**
 * What a process is made of, started in order and stopped in reverse.
 *
 * States: open (parts may be added, each is started as it is added) -> stopping (nothing is added any more; parts
 * stop last to first, each within its time) -> stopped. `stop` may be called from every state and more than once: all
 * callers get the same stop.
 */
export class Lifecycle {
  readonly #log: Logger;
  readonly #parts: { readonly name: string; readonly part: LifecyclePart }[] = [];
  #stopping: Promise<void> | undefined;
  #report: StopReport = { failed: [], hung: [] };

  constructor(options: { readonly log: Logger }) {
    this.#log = options.log;
  }

  get stopping(): boolean {
    return this.#stopping !== undefined;
  }

  /**
   * Starts a part and keeps it for the stop. A part whose start fails is stopped with the others: it may have come
   * half way.
   * @throws AppError 503 when the lifecycle is stopping, or the part has not started in time.
   */
  async add(name: string, part: LifecyclePart): Promise<void> {
    if (this.#stopping) {
      throw new AppError({
        code: 'runtime.stopping',
        status: 503,
        message: `${name} cannot start: the process is stopping.`,
      });
    }
    this.#parts.push({ name, part });
    const timeoutMs = part.startTimeoutMs ?? DEFAULT_START_TIMEOUT_MS;
    if (part.start && (await within(() => part.start?.(), timeoutMs)) === 'hung') {
      throw new AppError({
        code: 'runtime.start_timeout',
        status: 503,
        message: `${name} did not start within ${timeoutMs} ms.`,
      });
    }
  }

  /** What has not stopped well so far. */
  get report(): StopReport {
    return this.#report;
  }

  /** Stops every part, last to first. Never throws: what failed or hung is logged and in `report`. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stopAll();
    return this.#stopping;
  }

  async #stopAll(): Promise<void> {
    const failed: string[] = [];
    const hung: string[] = [];
    this.#report = { failed, hung };
    for (const { name, part } of this.#parts.toReversed()) {
      const timeoutMs = part.stopTimeoutMs ?? DEFAULT_STOP_TIMEOUT_MS;
      try {
        if (part.stop && (await within(() => part.stop?.(), timeoutMs)) === 'hung') {
          hung.push(name);
          this.#log.error({ part: name, timeoutMs }, 'did not stop in time; going on without it');
        }
      } catch (error) {
        failed.push(name);
        this.#log.error({ part: name, err: error }, 'failed to stop');
      }
    }
  }
}

/** The process as far as signals and exits go; tests give their own. */
export type ProcessLike = Pick<EventEmitter, 'on' | 'off'> & { exit(code: number): void };

/**
 * Ties a stop to the process: SIGTERM and SIGINT stop it and exit 0 (1 when something hung or failed), a second
 * signal exits at once, an unhandled rejection or exception is logged and stops it with exit 1.
 * @returns a function that unties it.
 */
export function stopWithProcess(
  stop: () => Promise<StopReport | void>,
  log: Logger,
  target: ProcessLike = process,
): () => void {
  let leaving = false;
  const leave = (exitCode: number): void => {
    if (leaving) {
      target.exit(1);
      return;
    }
    leaving = true;
    stop().then(
      (report) => {
        const clean = !report || report.hung.length + report.failed.length === 0;
        target.exit(clean ? exitCode : 1);
      },
      (error: unknown) => {
        log.fatal({ reason: describeError(error) }, 'could not stop');
        target.exit(1);
      },
    );
  };
  const onSignal = (signal: NodeJS.Signals): void => {
    log.info({ signal }, leaving ? 'stopping at once' : 'stopping');
    leave(0);
  };
  const onFault = (error: unknown): void => {
    log.fatal({ err: error }, 'unhandled error; stopping');
    // A second fault while stopping is only logged: the stop in progress goes on.
    if (!leaving) leave(1);
  };
  const signals = ['SIGTERM', 'SIGINT'];
  const faults = ['unhandledRejection', 'uncaughtException'];
  for (const event of signals) target.on(event, onSignal);
  for (const event of faults) target.on(event, onFault);
  return () => {
    for (const event of signals) target.off(event, onSignal);
    for (const event of faults) target.off(event, onFault);
  };
}
