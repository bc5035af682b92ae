import { freezeFile } from '@tuneloop/contracts/datasets/internal';
import { assertLease, type Lease } from '@tuneloop/runtime/leases';
import type { z } from 'zod';
import type { datasetVersion } from '@tuneloop/contracts/datasets/internal';
import { AppError } from '@tuneloop/runtime/errors';
import type { TrainerContext } from '../config.ts';
import { insertMessage } from '../store/curve.ts';
import { findJobById, type JobDataset, type JobRow, lockJobById, updateJob } from '../store/jobs.ts';

/** Half a gigabyte of examples is validated line by line. */
const FREEZE_TIMEOUT_MS = 15 * 60_000;

export function jobDataset(version: z.output<typeof datasetVersion>): JobDataset {
  const { id, content_hash, examples, splits, test_groups, test_fingerprint } = version;
  return { id, content_hash, examples, splits, test_groups, test_fingerprint };
}

/** Asks the datasets service to validate a job's files and freeze them. @throws AppError naming the file and the line */
export async function freezeFiles(
  ctx: TrainerContext,
  job: Pick<JobRow, 'id' | 'method'> & { readonly openai: NonNullable<JobRow['openai']> },
  call: { readonly projectId: string; readonly signal?: AbortSignal; readonly timeoutMs: number },
): Promise<JobDataset> {
  const { training_file, validation_file } = job.openai;
  const version = await ctx.callers.call(
    freezeFile,
    { body: { training_file, validation_file, method: job.method === 'dpo' ? 'dpo' : 'sft' } },
    { ...call, correlationId: job.id, idempotencyKey: `freeze-${job.id}` },
  );
  return jobDataset(version);
}

/** `validating` -> `queued`: the job's files become the version that it trains on. */
export async function freezeJobFiles(ctx: TrainerContext, lease: Lease): Promise<void> {
  const job = await ctx.pg.withTenant(lease.projectId, (tx) => findJobById(tx, lease.id));
  if (!job?.openai) throw new Error(`job ${lease.id} has no files to validate`);
  let dataset: JobDataset;
  try {
    dataset = await freezeFiles(
      ctx,
      { id: job.id, method: job.method, openai: job.openai },
      { projectId: lease.projectId, signal: lease.signal, timeoutMs: FREEZE_TIMEOUT_MS },
    );
  } catch (error) {
    if (!(error instanceof AppError) || error.retry) throw error;
    // OpenAI's word for it, and which of the two files.
    throw new AppError({
      code: error.field === 'validation_file' ? 'invalid_validation_file' : 'invalid_training_file',
      status: error.status,
      message: error.message,
      retry: false,
      field: error.field ?? 'training_file',
      cause: error,
    });
  }
  await ctx.pg.withTenant(lease.projectId, async (tx) => {
    await assertLease(tx, 'training_jobs', lease);
    const current = await lockJobById(tx, lease.id);
    if (current?.status !== 'validating') return;
    await updateJob(tx, lease.id, { status: 'queued', dataset, dataset_version_id: dataset.id });
    await insertMessage(
      tx,
      lease.id,
      'info',
      `${splitsAsText(dataset, job.openai?.validation_file ?? null)} The job is queued.`,
    );
  });
}

/** Whoever sends one file alone must learn that not all of it is trained on, and how to have it otherwise. */
function splitsAsText(dataset: JobDataset, validationFile: string | null): string {
  const { train, validation, test } = dataset.splits;
  const held = validation + test;
  const why =
    held > 0 && validationFile === null
      ? ' by the permanent splits of this project (send a validation_file to decide yourself)'
      : '';
  return `The files were validated: ${train} examples to train on, ${held} held out${why}.`;
}
