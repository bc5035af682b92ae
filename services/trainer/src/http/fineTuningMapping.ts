import type { FineTuningJob } from '@tuneloop/contracts/trainer/openai';
import type { z } from 'zod';
import type { fineTuningJobCheckpoint, fineTuningJobEvent } from '@tuneloop/contracts/trainer/openai';
import { openAiJobId, openAiStatus, shownHyperparameters } from '../domain/fineTuningJob.ts';
import type { CheckpointRow } from '../store/checkpoints.ts';
import type { JobEventRow } from '../store/curve.ts';
import type { JobRow } from '../store/jobs.ts';

const seconds = (at: Date): number => Math.floor(at.getTime() / 1000);

/** A job as OpenAI's API shows it. */
export function fineTuningJobBody(row: JobRow, modelName: string | null): FineTuningJob {
  const openai = row.openai;
  if (!openai) throw new Error(`job ${row.id} was not made by /v1/fine_tuning/jobs`);
  const status = openAiStatus(row.status);
  const shown = shownHyperparameters(openai.hyperparameters, row.settings);
  const finished = row.trained_at ?? row.completed_at;
  const left = row.progress?.seconds_left ?? null;
  return {
    id: openAiJobId(row.id),
    object: 'fine_tuning.job',
    created_at: seconds(row.created_at),
    error: status === 'failed' ? row.error : null,
    fine_tuned_model: status === 'succeeded' ? modelName : null,
    finished_at: finished === null ? null : seconds(finished),
    hyperparameters: shown,
    model: openai.model,
    organization_id: `org-${row.project_id}`,
    result_files: row.result?.result_file === undefined ? [] : [row.result.result_file],
    seed: row.seed,
    status,
    trained_tokens: row.result?.trained_tokens ?? null,
    training_file: openai.training_file,
    validation_file: openai.validation_file,
    estimated_finish: status === 'running' && left !== null ? Math.ceil(seconds(row.updated_at) + left) : null,
    integrations: openai.integrations as FineTuningJob['integrations'],
    metadata: openai.metadata === null ? null : { ...openai.metadata },
    method: { type: openai.method, [openai.method]: { hyperparameters: shown } },
  };
}

export const EVENT_PREFIX = 'ftevent-';
export const CHECKPOINT_PREFIX = 'ftckpt_';

export function fineTuningEventBody(row: JobEventRow): z.output<typeof fineTuningJobEvent> {
  return {
    id: `${EVENT_PREFIX}${row.id}`,
    object: 'fine_tuning.job.event',
    created_at: seconds(row.created_at),
    level: row.level,
    message: row.message,
    type: row.type,
    data:
      row.type === 'message'
        ? {}
        : {
            step: row.step,
            train_loss: row.loss,
            learning_rate: row.learning_rate,
            ...(row.accuracy === null ? {} : { train_accuracy: row.accuracy }),
            ...(row.eval_loss === null ? {} : { valid_loss: row.eval_loss }),
          },
  };
}

export function fineTuningCheckpointBody(
  row: CheckpointRow,
  last: { readonly loss: number; readonly eval_loss: number | null } | undefined,
): z.output<typeof fineTuningJobCheckpoint> {
  const step = row.step ?? 0;
  return {
    id: `${CHECKPOINT_PREFIX}${row.id}`,
    object: 'fine_tuning.job.checkpoint',
    created_at: seconds(row.created_at),
    fine_tuned_model_checkpoint: row.model_name ?? '',
    fine_tuning_job_id: openAiJobId(row.job_id ?? ''),
    step_number: step,
    metrics: {
      step,
      ...(last ? { train_loss: last.loss } : {}),
      ...(last?.eval_loss == null ? {} : { valid_loss: last.eval_loss, full_valid_loss: last.eval_loss }),
    },
  };
}
