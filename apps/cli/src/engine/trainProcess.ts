import { type ChildProcess, fork } from 'node:child_process';
import type { FromTraining, ToTraining, TrainOutcome } from './trainMessages.ts';

type Interim = Exclude<FromTraining, TrainOutcome>;

function isInterim(message: FromTraining): message is Interim {
  return (
    message.kind === 'stage' || message.kind === 'plan' || message.kind === 'estimate' || message.kind === 'progress'
  );
}

/**
 * A training run in a process of its own.
 *
 *   running -> outcome -> gone
 *   running -> stop() -> the step in hand is finished and the state saved -> outcome -> gone
 *   any state -> kill() or a crash -> outcome `failed` -> gone
 */
export class TrainProcess {
  readonly outcome: Promise<TrainOutcome>;
  readonly #child: ChildProcess;

  constructor(task: Extract<ToTraining, { kind: 'train' }>, onInterim: (message: Interim) => void) {
    this.#child = fork(new URL('./trainWorker.ts', import.meta.url), [], {
      execArgv: [],
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      // Ctrl-C in a terminal goes to the parent alone, which stops this process in order.
      detached: true,
    });
    const { promise, resolve } = Promise.withResolvers<TrainOutcome>();
    this.outcome = promise;
    this.#child.on('message', (message: FromTraining) => {
      if (isInterim(message)) onInterim(message);
      else resolve(message);
    });
    this.#child.once('error', (error) => resolve({ kind: 'failed', message: error.message }));
    this.#child.once('exit', (code, signal) => {
      const how = signal === null ? `status ${String(code)}` : signal;
      const memory = signal === 'SIGKILL' ? '; the system kills what takes too much memory: see --memory' : '';
      resolve({ kind: 'failed', message: `the training process ended with ${how}${memory}` });
    });
    this.#child.send(task);
  }

  stop(): void {
    const message: ToTraining = { kind: 'stop' };
    if (this.#child.connected) this.#child.send(message);
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}
