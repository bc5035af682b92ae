/**
 * The training process: one run, then it ends. Passes of the engine block their thread, so the terminal lives in the
 * process that started this one; it ends with its parent.
 */
import { EngineError } from '@tuneloop/engine/errors';
import { TrainingCancelled } from '@tuneloop/engine/train/trainingCancelled';
import { DataError } from './dataset/jsonLines.ts';
import { RunFolder } from './runFolder.ts';
import { runTrainJob } from './trainJob.ts';
import type { FromTraining, ToTraining, TrainOutcome } from './trainMessages.ts';

const stop = new AbortController();

function send(message: FromTraining): void {
  process.send?.(message);
}

function failure(error: unknown): TrainOutcome {
  if (error instanceof TrainingCancelled) return { kind: 'stopped', step: error.step, saved: error.step > 0 };
  const meant = error instanceof EngineError || error instanceof DataError;
  const message = error instanceof Error ? error.message : String(error);
  // The stack of what nobody foresaw is worth having; of the rest it would hide the message.
  return { kind: 'failed', message: meant || !(error instanceof TypeError) ? message : (error.stack ?? message) };
}

function answer(outcome: TrainOutcome): void {
  process.send?.(outcome, () => process.disconnect());
}

process.on('message', (message: ToTraining) => {
  if (message.kind === 'stop') return stop.abort(new Error('stopped'));
  const { settings, resume, dryRun } = message;
  const job = { settings, resume, dryRun, folder: new RunFolder(message.output), signal: stop.signal, send };
  void runTrainJob(job).catch(failure).then(answer);
});
process.once('disconnect', () => process.exit());
