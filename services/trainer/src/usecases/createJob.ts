import { randomInt } from 'node:crypto';
import { AppError } from '@tuneloop/runtime/errors';
import { newId } from '@tuneloop/runtime/ids';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { baseFolder } from '../baseModels.ts';
import type { TrainerContext } from '../config.ts';
import { isLocalMethod } from '../domain/job.ts';
import { findCheckpointById, findCheckpointByName, type CheckpointRow } from '../store/checkpoints.ts';
import { insertMessage } from '../store/curve.ts';
import { insertJob, type JobRow, type NewJob } from '../store/jobs.ts';

const MAX_SEED = 2_147_483_647;
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export type JobRequest = Pick<
  NewJob,
  'source' | 'status' | 'method' | 'slot' | 'base_model' | 'hyperparameters' | 'requested_by' | 'evaluate'
> &
  Partial<
    Pick<
      NewJob,
      | 'request_id'
      | 'correlation_id'
      | 'start_from'
      | 'reference'
      | 'suffix'
      | 'priority'
      | 'dataset_version_id'
      | 'dataset'
      | 'openai'
      | 'request_hash'
    >
  > & { readonly seed?: number | null };

/** Makes a job that will be run; undefined when its request has one already. */
export async function createJob(tx: Tx, request: JobRequest): Promise<JobRow | undefined> {
  const id = newId();
  const job = await insertJob(tx, {
    id,
    request_id: request.request_id ?? null,
    correlation_id: request.correlation_id ?? id,
    source: request.source,
    status: request.status,
    method: request.method,
    slot: request.slot,
    base_model: request.base_model,
    start_from: request.start_from ?? 'base',
    reference: request.reference ?? 'base',
    // Drawn here when nobody says: the job's row names it, so that the run can be repeated.
    seed: request.seed ?? randomInt(MAX_SEED),
    suffix: request.suffix ?? null,
    priority: request.priority ?? 0,
    evaluate: request.evaluate,
    hyperparameters: request.hyperparameters,
    dataset_version_id: request.dataset_version_id ?? null,
    dataset: request.dataset ?? null,
    openai: request.openai ?? null,
    request_hash: request.request_hash ?? null,
    requested_by: request.requested_by,
  });
  if (job) await insertMessage(tx, id, 'info', 'The job was created.');
  return job;
}

/**
 * Whether this service can train what is asked for.
 * @throws AppError 400 or 404 naming the field
 */
export async function requireTrainable(
  tx: Tx,
  ctx: TrainerContext,
  job: Pick<NewJob, 'method' | 'base_model' | 'start_from' | 'reference'>,
): Promise<void> {
  if (!isLocalMethod(job.method)) {
    throw new AppError({
      code: 'trainer.method.unsupported',
      status: 400,
      message: `The method ${job.method} is not available on the local backend. Use sft or dpo.`,
      retry: false,
      field: 'method',
    });
  }
  baseFolder(ctx.config, job.base_model);
  await startingCheckpoint(tx, job);
  if (job.reference !== 'base' && job.reference !== job.start_from) {
    throw new AppError({
      code: 'trainer.reference.unsupported',
      status: 400,
      message: 'reference must be base, or the same as start_from.',
      retry: false,
      field: 'reference',
    });
  }
}

/** The checkpoint that a job starts from; undefined for the base. @throws AppError 404 */
export async function startingCheckpoint(
  tx: Tx,
  job: Pick<NewJob, 'start_from' | 'base_model'>,
): Promise<CheckpointRow | undefined> {
  const { start_from: from } = job;
  if (from === 'base') return undefined;
  const found = UUID.test(from) ? await findCheckpointById(tx, from) : await findCheckpointByName(tx, from);
  if (!found || found.origin !== 'trained' || found.base_model !== job.base_model) {
    throw new AppError({
      code: 'trainer.start_from.not_found',
      status: 404,
      message: `There is no checkpoint ${from} of ${job.base_model} to start from. Give base, a checkpoint id or an ft: name.`,
      retry: false,
      field: 'start_from',
    });
  }
  return found;
}
