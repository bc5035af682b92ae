/**
 * One task in a process of its own: passes of the engine block their thread, and a crash of native code takes nobody
 * else with it. The process knows no database; the service keeps what it says. It ends with its parent.
 */
import { EngineError } from '@tuneloop/engine/errors';
import { TrainingCancelled } from '@tuneloop/engine/train/trainingCancelled';
import { describeError } from '@tuneloop/runtime/errors';
import { evaluate } from '../domain/evaluation.ts';
import type { FromWorker, Task, ToWorker } from './messages.ts';
import { score } from './score.ts';
import { train } from './train.ts';

const MAX_ERROR_CHARS = 500;
const cancel = new AbortController();
let stateSaved: (() => void) | null = null;

function send(message: FromWorker): void {
  process.send?.(message);
}

async function run(task: Task): Promise<FromWorker> {
  if (task.kind === 'score') return score(task);
  if (task.kind === 'decide') return { kind: 'decided', outcome: evaluate(task.input) };
  return train(task, {
    signal: cancel.signal,
    prepared: (examples, skippedTooLong) => send({ kind: 'prepared', examples, skippedTooLong }),
    progress: (progress) => send({ kind: 'progress', progress }),
    saveState: (file, step) =>
      new Promise((resolve) => {
        stateSaved = resolve;
        send({ kind: 'state', file, step });
      }),
  });
}

function failure(error: unknown): FromWorker {
  if (error instanceof TrainingCancelled) return { kind: 'stopped' };
  const known = error instanceof EngineError || error instanceof RangeError;
  return {
    kind: 'failed',
    code: error instanceof EngineError ? error.code : 'trainer.worker.failed',
    message: describeError(error, MAX_ERROR_CHARS),
    retry: !known,
  };
}

process.on('message', (message: ToWorker) => {
  if (message.kind === 'saved') return stateSaved?.();
  if (message.kind === 'cancel') return cancel.abort(new Error('cancelled'));
  void run(message)
    .catch(failure)
    .then((answer) => send(answer));
});
// A parent that died leaves no orphan behind.
process.once('disconnect', () => process.exit(1));
