import { trainingCancelled, trainingFailed } from '@tuneloop/contracts/trainer/events';
import { AppError } from '@tuneloop/runtime/errors';
import { emit } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { isOver, type JobError } from '../domain/job.ts';
import { insertMessage } from '../store/curve.ts';
import { cancelEvaluationOfJob } from '../store/evaluations.ts';
import { type JobRow, updateJob } from '../store/jobs.ts';

/** Ends a job without an adapter, or without a decision on the one it made. The row must be locked. */
export async function failJob(tx: Tx, job: JobRow, error: JobError, at: Date): Promise<JobRow> {
  const failed = await updateJob(tx, job.id, { status: 'failed', error, completed_at: at });
  await insertMessage(tx, job.id, 'error', `The job failed: ${error.message}`);
  await emit(tx, trainingFailed, {
    subject: job.id,
    correlationId: job.correlation_id,
    data: { job_id: job.id, request_id: job.request_id, code: error.code, reason: error.message },
  });
  return failed;
}

/**
 * Stops a job. Its worker notices within seconds; a checkpoint that was made already stays. The row must be locked.
 * @throws AppError 409 when the job is over
 */
export async function cancelJob(tx: Tx, job: JobRow, actor: string, at: Date): Promise<JobRow> {
  if (isOver(job.status)) throw notPossible(job, 'cancelled');
  const cancelled = await updateJob(tx, job.id, { status: 'cancelled', cancelled_by: actor, completed_at: at });
  await cancelEvaluationOfJob(tx, job.id, at);
  await insertMessage(tx, job.id, 'info', 'The job was cancelled.');
  await emit(tx, trainingCancelled, {
    subject: job.id,
    correlationId: job.correlation_id,
    data: { job_id: job.id, request_id: job.request_id, cancelled_by: actor },
  });
  return cancelled;
}

export function notPossible(job: JobRow, what: string): AppError {
  return new AppError({
    code: 'trainer.job.wrong_status',
    status: 409,
    message: `The job is ${job.status}; it cannot be ${what} now.`,
    retry: false,
  });
}
