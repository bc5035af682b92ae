import type { ChildProcess } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from './log.ts';
import { type StopSteps, stopProcess } from './processes.ts';

/** Pause before a restart: doubles from the first to the last while the program keeps dying at once. */
const FIRST_BACKOFF_MS = 50;
const LAST_BACKOFF_MS = 5000;

/** Failed starts in a row after which the supervisor gives up and says so. */
const MAX_FAILED_STARTS = 20;

/** What runs: how to bring it up (resolving once it accepts work) and how to take it down cleanly. */
export interface Program {
  name: string;
  launch(): Promise<ChildProcess>;
  /** The first signal is also sent when this process itself exits without having stopped the child. */
  stopSteps: StopSteps;
}

/** Children that must not outlive an orderly exit of this process. A SIGKILL leaves them; the next start finds them. */
const running = new Map<ChildProcess, NodeJS.Signals>();
process.on('exit', () => {
  for (const [child, signal] of running) child.kill(signal);
});

/**
 * Keeps one child process.
 *
 * States: `running` -> (dies) -> `restarting` -> `running` when restarts are wanted, else -> `failed`;
 * from any state `stop()` -> `stopping` -> `stopped`, for good. `stop()` during a restart waits for that launch and
 * then takes it down, so no child is ever left behind by a race between the two.
 */
export class Supervisor {
  readonly #program: Program;
  readonly #restart: boolean;
  readonly #log: Log;
  #state: 'running' | 'restarting' | 'failed' | 'stopping' | 'stopped' = 'running';
  #child: ChildProcess | undefined;
  #restarting: Promise<void> = Promise.resolve();
  #stopped: Promise<void> | undefined;
  readonly #wake = new AbortController();
  #restarts = 0;

  private constructor(program: Program, options: { restart: boolean; log: Log }) {
    this.#program = program;
    this.#restart = options.restart;
    this.#log = options.log;
  }

  /** Launches the program and resolves once it accepts work. Rejects with the launch's error. */
  static async start(program: Program, options: { restart: boolean; log: Log }): Promise<Supervisor> {
    const supervisor = new Supervisor(program, options);
    supervisor.#adopt(await program.launch());
    return supervisor;
  }

  /** Pid of the running child; undefined while it is down. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** How often the child has been brought up again. */
  get restarts(): number {
    return this.#restarts;
  }

  /** Shuts the child down cleanly. Calling it again awaits the same shutdown. */
  stop(): Promise<void> {
    this.#stopped ??= this.#shutDown();
    return this.#stopped;
  }

  async #shutDown(): Promise<void> {
    this.#state = 'stopping';
    this.#wake.abort();
    await this.#restarting;
    const child = this.#child;
    if (child?.pid !== undefined) await stopProcess(child.pid, this.#program.stopSteps);
    this.#state = 'stopped';
  }

  #adopt(child: ChildProcess): void {
    this.#child = child;
    running.set(child, this.#program.stopSteps[0].signal);
    const onExit = (code: number | null, signal: NodeJS.Signals | null): void => {
      running.delete(child);
      this.#child = undefined;
      if (this.#state !== 'running') return;
      this.#log.error({ program: this.#program.name, pid: child.pid, code, signal }, 'died unexpectedly');
      if (!this.#restart) {
        this.#state = 'failed';
        return;
      }
      this.#state = 'restarting';
      this.#restarting = this.#bringBack();
    };
    // It may have died between being ready and this line.
    if (child.exitCode !== null || child.signalCode !== null) onExit(child.exitCode, child.signalCode);
    else child.once('exit', onExit);
  }

  async #bringBack(): Promise<void> {
    let backoffMs = FIRST_BACKOFF_MS;
    for (let failed = 0; failed < MAX_FAILED_STARTS && this.#state === 'restarting'; failed += 1) {
      try {
        const child = await this.#program.launch();
        this.#restarts += 1;
        if (this.#state === 'restarting') this.#state = 'running';
        this.#log.info({ program: this.#program.name, pid: child.pid }, 'restarted');
        this.#adopt(child);
        return;
      } catch (error) {
        this.#log.warn({ program: this.#program.name, err: error, backoffMs }, 'restart failed');
      }
      await delay(backoffMs, undefined, { signal: this.#wake.signal }).catch(() => undefined);
      backoffMs = Math.min(backoffMs * 2, LAST_BACKOFF_MS);
    }
    if (this.#state === 'restarting') {
      this.#state = 'failed';
      this.#log.error({ program: this.#program.name, attempts: MAX_FAILED_STARTS }, 'gave up restarting');
    }
  }
}
