import type { Tx } from '@tuneloop/runtime/pg/database';
import { mayPause } from '../domain/job.ts';
import { insertMessage } from '../store/curve.ts';
import { type JobRow, updateJob } from '../store/jobs.ts';
import { notPossible } from './settleJob.ts';

/** Stops a job within seconds; its worker saves the state first. The row must be locked. @throws AppError 409 */
export async function pauseJob(tx: Tx, job: JobRow): Promise<JobRow> {
  if (!mayPause(job.status)) throw notPossible(job, 'paused');
  await insertMessage(tx, job.id, 'info', 'The job was paused.');
  return updateJob(tx, job.id, { status: 'paused' });
}

/** Goes on from the saved state. The row must be locked. @throws AppError 409 */
export async function resumeJob(tx: Tx, job: JobRow): Promise<JobRow> {
  if (job.status !== 'paused') throw notPossible(job, 'resumed');
  await insertMessage(tx, job.id, 'info', 'The job was resumed.');
  // Files that were still being validated when it was paused are validated first.
  return updateJob(tx, job.id, { status: job.dataset_version_id === null ? 'validating' : 'queued' });
}
