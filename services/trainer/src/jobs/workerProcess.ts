import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { Logger } from '@tuneloop/runtime/log';
import type { FromWorker, Task, ToWorker } from '../worker/messages.ts';

/** A worker in the middle of a long pass hears nothing: after this it is killed. */
const STOP_GRACE_MS = 3_000;

type Final = Exclude<FromWorker, { readonly kind: 'progress' | 'prepared' | 'state' }>;
type Interim = Exclude<FromWorker, Final>;

/** The process ended without an answer: killed, out of memory, crashed in native code. */
export class WorkerDiedError extends Error {
  override readonly name = 'WorkerDiedError';
}

/** What a worker said when its task cannot be done. */
export class WorkerFailedError extends Error {
  override readonly name = 'WorkerFailedError';
  readonly code: string;
  readonly retry: boolean;

  constructor(failure: { readonly code: string; readonly message: string; readonly retry: boolean }) {
    super(failure.message);
    this.code = failure.code;
    this.retry = failure.retry;
  }
}

function isInterim(message: FromWorker): message is Interim {
  return message.kind === 'progress' || message.kind === 'prepared' || message.kind === 'state';
}

/**
 * One worker process, for one task after the other.
 *
 *   idle -> run(task) -> idle ... -> close() -> gone
 *   any state -> the process dies -> gone: the running task rejects with WorkerDiedError
 */
export class WorkerProcess {
  readonly #child: ChildProcess;
  #closing = false;

  constructor(log: Logger) {
    this.#child = fork(new URL('../worker/main.ts', import.meta.url), [], {
      execArgv: [],
      // It reads files and answers; it has no business with credentials.
      env: { PATH: process.env.PATH },
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      // Ctrl-C in a terminal goes to the parent alone, which stops its workers in order.
      detached: true,
    });
    this.#child.on('error', (error) => log.error({ err: error }, 'a worker process could not be started or told'));
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /**
   * @param onInterim told what the worker says on its way; `state` waits for `send({kind: 'saved'})`
   * @throws WorkerDiedError, WorkerFailedError; the signal's reason when it fired
   */
  async run(task: Task, signal: AbortSignal, onInterim: (message: Interim) => void = () => undefined): Promise<Final> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<Final>();
    const onMessage = (message: FromWorker): void => {
      if (isInterim(message)) onInterim(message);
      else resolve(message);
    };
    const onExit = (code: number | null, killedBy: string | null): void =>
      reject(new WorkerDiedError(`the worker process ended with ${killedBy ?? `status ${String(code)}`}`));
    const onAbort = (): void => {
      this.kill();
      reject(signal.reason as Error);
    };
    this.#child.on('message', onMessage);
    this.#child.once('exit', onExit);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      if (this.#gone) throw new WorkerDiedError('the worker process has ended');
      this.send(task);
      const answer = await promise;
      if (answer.kind === 'failed') throw new WorkerFailedError(answer);
      return answer;
    } finally {
      this.#child.off('message', onMessage);
      this.#child.off('exit', onExit);
      signal.removeEventListener('abort', onAbort);
    }
  }

  send(message: ToWorker): void {
    if (this.#child.connected) this.#child.send(message);
  }

  /** Asks the task to stop after the step it is at; kills the process when that takes too long. */
  cancel(): void {
    if (this.#closing) return;
    this.#closing = true;
    this.send({ kind: 'cancel' });
    const timer = setTimeout(() => this.kill(), STOP_GRACE_MS);
    this.#child.once('exit', () => clearTimeout(timer));
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  /** Ends the process and waits until it is gone. */
  async close(): Promise<void> {
    if (this.#gone) return;
    const gone = once(this.#child, 'exit');
    this.kill();
    await gone;
  }

  get #gone(): boolean {
    return this.#child.pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null;
  }
}
