import type { TrainingMethod } from '@tuneloop/contracts/trainer/events';

/**
 * A training job's states.
 *
 *   waiting_for_dataset -> queued        (dataset.ready)
 *   validating -> queued                 (uploaded files frozen into a dataset version)
 *   queued -> training -> evaluating -> completed
 *                      -> completed      (when no evaluation was asked for)
 *   queued | training -> paused -> queued
 *   any open state -> failed | cancelled
 *
 * `pending` and `uploading` belong to backends elsewhere.
 */
export const JOB_STATUSES = [
  'pending',
  'waiting_for_dataset',
  'uploading',
  'validating',
  'queued',
  'training',
  'paused',
  'evaluating',
  'completed',
  'failed',
  'cancelled',
] as const;
export type JobStatus = (typeof JOB_STATUSES)[number];

/** What this service trains by itself. */
export const LOCAL_METHODS = ['sft', 'dpo'] as const satisfies readonly TrainingMethod[];
export type LocalMethod = (typeof LOCAL_METHODS)[number];

export function isLocalMethod(method: TrainingMethod): method is LocalMethod {
  return LOCAL_METHODS.some((local) => local === method);
}

export function isOver(status: JobStatus): boolean {
  return status === 'completed' || status === 'failed' || status === 'cancelled';
}

/** A worker may go on with the job. */
export function mayRun(status: JobStatus): boolean {
  return status === 'validating' || status === 'queued' || status === 'training';
}

export function mayPause(status: JobStatus): boolean {
  return mayRun(status);
}

export interface JobError {
  readonly code: string;
  readonly message: string;
  /** The field or file that was wrong. */
  readonly param: string | null;
}

export interface JobProgress {
  readonly step: number;
  readonly total_steps: number;
  readonly epoch: number;
  readonly percent: number;
  readonly loss: number | null;
  readonly eval_loss: number | null;
  readonly learning_rate: number | null;
  readonly grad_norm: number | null;
  readonly tokens_per_second: number | null;
  readonly seconds_left: number | null;
}

export interface JobResult {
  readonly steps: number;
  readonly first_loss: number;
  readonly last_loss: number;
  readonly eval_loss: number | null;
  /** Tokens of the examples times the epochs. */
  readonly trained_tokens: number;
  readonly examples: number;
  /** Examples longer than the model or the limit takes. */
  readonly skipped_too_long: number;
  readonly tokens_per_second: number;
  readonly peak_memory_mb: number;
  readonly seconds: number;
  /** Step metrics as a file of /v1/files, for jobs made there. */
  readonly result_file?: string;
}
