import type { TrainingMethod } from '@tuneloop/contracts/trainer/events';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { Hyperparameters, TrainingSettings } from '../domain/defaults.ts';
import type { JobError, JobProgress, JobResult, JobStatus } from '../domain/job.ts';

/** The frozen dataset version a job trains on, as the job remembers it. */
export interface JobDataset {
  readonly id: string;
  readonly content_hash: string;
  readonly examples: number;
  readonly splits: { readonly train: number; readonly validation: number; readonly test: number };
  readonly test_groups: number;
  readonly test_fingerprint: string;
}

/** What OpenAI's job object has beyond ours. */
export interface OpenAiFields {
  readonly training_file: string;
  readonly validation_file: string | null;
  readonly model: string;
  readonly method: 'supervised' | 'dpo';
  readonly hyperparameters: Readonly<Record<string, number | 'auto'>>;
  readonly metadata: Readonly<Record<string, string>> | null;
  readonly integrations: readonly Readonly<Record<string, unknown>>[] | null;
}

export interface JobRow {
  id: string;
  project_id: string;
  request_id: string | null;
  correlation_id: string;
  source: 'loop' | 'direct' | 'openai';
  status: JobStatus;
  method: TrainingMethod;
  slot: string;
  base_model: string;
  start_from: string;
  reference: string;
  seed: number;
  suffix: string | null;
  priority: number;
  evaluate: boolean;
  hyperparameters: Hyperparameters;
  settings: TrainingSettings | null;
  dataset_version_id: string | null;
  dataset: JobDataset | null;
  openai: OpenAiFields | null;
  request_hash: string | null;
  requested_by: string;
  attempts: number;
  lease_epoch: number;
  lease_until: Date | null;
  state_key: string | null;
  state_step: number | null;
  progress: JobProgress | null;
  result: JobResult | null;
  checkpoint_id: string | null;
  error: JobError | null;
  cancelled_by: string | null;
  created_at: Date;
  started_at: Date | null;
  trained_at: Date | null;
  completed_at: Date | null;
  updated_at: Date;
}

export type NewJob = Pick<
  JobRow,
  | 'id'
  | 'request_id'
  | 'correlation_id'
  | 'source'
  | 'status'
  | 'method'
  | 'slot'
  | 'base_model'
  | 'start_from'
  | 'reference'
  | 'seed'
  | 'suffix'
  | 'priority'
  | 'evaluate'
  | 'hyperparameters'
  | 'dataset_version_id'
  | 'dataset'
  | 'openai'
  | 'request_hash'
  | 'requested_by'
>;

/** Columns that a step of the job may change; what is left out stays. */
export type JobChange = Partial<
  Pick<
    JobRow,
    | 'status'
    | 'dataset_version_id'
    | 'dataset'
    | 'settings'
    | 'attempts'
    | 'state_key'
    | 'state_step'
    | 'progress'
    | 'result'
    | 'checkpoint_id'
    | 'error'
    | 'cancelled_by'
    | 'started_at'
    | 'trained_at'
    | 'completed_at'
  >
>;

const CHANGEABLE: readonly (keyof JobChange)[] = [
  'status',
  'dataset_version_id',
  'dataset',
  'settings',
  'attempts',
  'state_key',
  'state_step',
  'progress',
  'result',
  'checkpoint_id',
  'error',
  'cancelled_by',
  'started_at',
  'trained_at',
  'completed_at',
];
const JSON_COLUMNS: readonly (keyof JobChange)[] = ['dataset', 'settings', 'progress', 'result', 'error'];

/** Undefined when the request has a job already. */
export async function insertJob(tx: Tx, job: NewJob): Promise<JobRow | undefined> {
  return tx.one<JobRow>(
    `INSERT INTO training_jobs (id, project_id, request_id, correlation_id, source, status, method, slot, base_model,
       start_from, reference, seed, suffix, priority, evaluate, hyperparameters, dataset_version_id, dataset, openai,
       request_hash, requested_by)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
     ON CONFLICT (request_id) DO NOTHING RETURNING *`,
    [
      job.id,
      tx.projectId,
      job.request_id,
      job.correlation_id,
      job.source,
      job.status,
      job.method,
      job.slot,
      job.base_model,
      job.start_from,
      job.reference,
      job.seed,
      job.suffix,
      job.priority,
      job.evaluate,
      JSON.stringify(job.hyperparameters),
      job.dataset_version_id,
      job.dataset === null ? null : JSON.stringify(job.dataset),
      job.openai === null ? null : JSON.stringify(job.openai),
      job.request_hash,
      job.requested_by,
    ],
  );
}

export async function findJobById(tx: Tx, id: string): Promise<JobRow | undefined> {
  return tx.one<JobRow>('SELECT * FROM training_jobs WHERE id = $1', [id]);
}

export async function lockJobById(tx: Tx, id: string): Promise<JobRow | undefined> {
  return tx.one<JobRow>('SELECT * FROM training_jobs WHERE id = $1 FOR UPDATE', [id]);
}

export async function lockJobByRequest(tx: Tx, requestId: string): Promise<JobRow | undefined> {
  return tx.one<JobRow>('SELECT * FROM training_jobs WHERE request_id = $1 FOR UPDATE', [requestId]);
}

/** The newest job made from the very same request since then. */
export async function findJobByRequestHash(tx: Tx, hash: string, since: Date): Promise<JobRow | undefined> {
  return tx.one<JobRow>(
    `SELECT * FROM training_jobs WHERE project_id = $1 AND request_hash = $2 AND created_at > $3
     ORDER BY created_at DESC LIMIT 1`,
    [tx.projectId, hash, since],
  );
}

export interface JobFilter {
  readonly status?: JobStatus | undefined;
  readonly slot?: string | undefined;
  readonly requestId?: string | undefined;
  readonly source?: JobRow['source'];
  /** `null`: jobs without metadata. */
  readonly metadata?: Readonly<Record<string, string>> | null;
}

/** Newest first. */
export async function listJobs(
  tx: Tx,
  filter: JobFilter,
  limit: number,
  before: string | undefined,
): Promise<JobRow[]> {
  return tx.query<JobRow>(
    `SELECT * FROM training_jobs
     WHERE ($2::uuid IS NULL OR id < $2) AND ($3::text IS NULL OR status = $3) AND ($4::text IS NULL OR slot = $4)
       AND ($5::text IS NULL OR source = $5) AND ($6::uuid IS NULL OR request_id = $6)
       AND ($7::jsonb IS NULL OR openai->'metadata' @> $7)
       AND (NOT $8 OR coalesce(openai->'metadata', 'null'::jsonb) = 'null'::jsonb)
     ORDER BY id DESC LIMIT $1`,
    [
      limit,
      before ?? null,
      filter.status ?? null,
      filter.slot ?? null,
      filter.source ?? null,
      filter.requestId ?? null,
      filter.metadata ? JSON.stringify(filter.metadata) : null,
      filter.metadata === null,
    ],
  );
}

export async function updateJob(tx: Tx, id: string, change: JobChange): Promise<JobRow> {
  const columns = CHANGEABLE.filter((column) => change[column] !== undefined);
  const values = columns.map((column) => {
    const value = change[column];
    return JSON_COLUMNS.includes(column) && value !== null ? JSON.stringify(value) : value;
  });
  const assignments = columns.map((column, index) => `${column} = $${index + 2}, `).join('');
  const row = await tx.one<JobRow>(
    `UPDATE training_jobs SET ${assignments}updated_at = now() WHERE id = $1 RETURNING *`,
    [id, ...values],
  );
  return row!;
}

/** Gives the lease back, if it is still ours, so that the job is claimed again at once. */
export async function releaseLease(
  tx: Tx,
  table: 'training_jobs' | 'evaluations',
  lease: { readonly id: string; readonly epoch: number },
): Promise<void> {
  await tx.execute(`UPDATE ${table} SET lease_owner = NULL, lease_until = NULL WHERE id = $1 AND lease_epoch = $2`, [
    lease.id,
    lease.epoch,
  ]);
}

/** Whether a job, not this one, still refers to the saved state. */
export async function isStateShared(tx: Tx, key: string, exceptJob: string): Promise<boolean> {
  const row = await tx.one('SELECT 1 FROM training_jobs WHERE state_key = $1 AND id <> $2 LIMIT 1', [key, exceptJob]);
  return row !== undefined;
}
