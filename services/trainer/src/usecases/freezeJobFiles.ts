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

type HeldBack = NonNullable<z.output<typeof datasetVersion>['held_back']>;

export function jobDataset(version: z.output<typeof datasetVersion>): JobDataset {
  const { id, content_hash, examples, splits, test_groups, test_fingerprint } = version;
  return { id, content_hash, examples, splits, test_groups, test_fingerprint };
}

/** Asks the datasets service to validate a job's files and freeze them. @throws AppError naming the file and the line */
export async function freezeFiles(
  ctx: TrainerContext,
  job: Pick<JobRow, 'id' | 'method'> & { readonly openai: NonNullable<JobRow['openai']> },
  call: { readonly projectId: string; readonly signal?: AbortSignal; readonly timeoutMs: number },
): Promise<{ readonly dataset: JobDataset; readonly heldBack: HeldBack | undefined }> {
  const { training_file, validation_file } = job.openai;
  const version = await ctx.callers.call(
    freezeFile,
    { body: { training_file, validation_file, method: job.method === 'dpo' ? 'dpo' : 'sft' } },
    { ...call, correlationId: job.id, idempotencyKey: `freeze-${job.id}` },
  );
  return { dataset: jobDataset(version), heldBack: version.held_back };
}

/** `validating` -> `queued`: the job's files become the version that it trains on. */
export async function freezeJobFiles(ctx: TrainerContext, lease: Lease): Promise<void> {
  const job = await ctx.pg.withTenant(lease.projectId, (tx) => findJobById(tx, lease.id));
  if (!job?.openai) throw new Error(`job ${lease.id} has no files to validate`);
  let frozen: Awaited<ReturnType<typeof freezeFiles>>;
  try {
    frozen = await freezeFiles(
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
    const { dataset, heldBack } = frozen;
    await assertLease(tx, 'training_jobs', lease);
    const current = await lockJobById(tx, lease.id);
    if (current?.status !== 'validating') return;
    await updateJob(tx, lease.id, { status: 'queued', dataset, dataset_version_id: dataset.id });
    await insertMessage(
      tx,
      lease.id,
      'info',
      `The files were validated: ${dataset.splits.train} examples to train on, ${dataset.splits.validation} to validate with. The job is queued.`,
    );
    if (heldBack) await insertMessage(tx, lease.id, 'warn', heldBackAsText(heldBack));
  });
}

/** Whoever sends a file must learn which of its lines were not trained on, and why. */
function heldBackAsText({ count, lines }: HeldBack): string {
  const more = count > lines.length ? ` and ${count - lines.length} more` : '';
  const [which, were] = count === 1 ? ['Line', 'was'] : ['Lines', 'were'];
  return (
    `${which} ${lines.join(', ')}${more} of the training file ${were} held back: this project tests its models on those ` +
    'prompts and never trains on them.'
  );
}
