import type { Tx } from '@tuneloop/runtime/pg/database';
import type { DatasetAnswer } from '../domain/datasetAnswer.ts';
import { insertMessage } from '../store/curve.ts';
import { type JobRow, updateJob } from '../store/jobs.ts';
import { failJob } from './settleJob.ts';

/** Gives a waiting job what the datasets service said. A job that no longer waits stays as it is. */
export async function answerDataset(tx: Tx, job: JobRow, answer: DatasetAnswer, at: Date): Promise<void> {
  if (job.status !== 'waiting_for_dataset') return;
  switch (answer.kind) {
    case 'ready': {
      const { dataset_version_id: id, content_hash, examples, splits, test_groups, test_fingerprint } = answer.data;
      await updateJob(tx, job.id, {
        status: 'queued',
        dataset_version_id: id,
        dataset: { id, content_hash, examples, splits, test_groups, test_fingerprint },
      });
      await insertMessage(tx, job.id, 'info', `The dataset is ready: ${splits.train} examples to train on.`);
      return;
    }
    case 'insufficient': {
      // Not a failure: the scheduler closes the run without action on the same event.
      const { examples, needed, reason } = answer.data;
      const message = `Too little data: ${examples} examples of ${needed} needed (${reason}).`;
      await updateJob(tx, job.id, {
        status: 'cancelled',
        cancelled_by: 'service:datasets',
        completed_at: at,
        error: { code: 'dataset.insufficient', message, param: null },
      });
      await insertMessage(tx, job.id, 'info', message);
      return;
    }
    case 'failed': {
      const { code, reason } = answer.data;
      await failJob(tx, job, { code, message: `The dataset could not be built: ${reason}`, param: null }, at);
    }
  }
}
