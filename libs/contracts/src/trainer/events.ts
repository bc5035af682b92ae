import { z } from 'zod';
import { timestamp, uuid } from '../common.ts';
import { defineEvent } from '../event.ts';

export const trainingMethod = z.enum(['sft', 'dpo', 'kto', 'reward', 'grpo', 'classifier']);
export type TrainingMethod = z.output<typeof trainingMethod>;

const jobRef = { job_id: uuid, request_id: uuid.nullable() };

export const trainingStarted = defineEvent({
  type: 'training.started',
  version: 1,
  owner: 'trainer',
  summary: 'A worker began (or took over) a job.',
  schema: z.object({ ...jobRef, epoch: z.number().int(), resumed_from_step: z.number().int().nullable() }),
});

export const trainingProgressed = defineEvent({
  type: 'training.progressed',
  version: 1,
  owner: 'trainer',
  summary: 'How far a job is; at most one a second.',
  schema: z.object({
    ...jobRef,
    step: z.number().int(),
    total_steps: z.number().int(),
    percent: z.number(),
    loss: z.number().nullable(),
    eval_loss: z.number().nullable(),
    learning_rate: z.number().nullable(),
    grad_norm: z.number().nullable(),
    tokens_per_second: z.number().nullable(),
    seconds_left: z.number().nullable(),
  }),
});

export const trainingCompleted = defineEvent({
  type: 'training.completed',
  version: 1,
  owner: 'trainer',
  summary: 'The adapter is written.',
  schema: z.object({
    ...jobRef,
    checkpoint_id: uuid,
    steps: z.number().int(),
    first_loss: z.number().nullable(),
    last_loss: z.number().nullable(),
    tokens_per_second: z.number().nullable(),
    peak_memory_mb: z.number().nullable(),
  }),
});

export const trainingFailed = defineEvent({
  type: 'training.failed',
  version: 1,
  owner: 'trainer',
  summary: 'A job ended without an adapter.',
  schema: z.object({ ...jobRef, code: z.string(), reason: z.string() }),
});

export const trainingCancelled = defineEvent({
  type: 'training.cancelled',
  version: 1,
  owner: 'trainer',
  summary: 'A person stopped a job.',
  schema: z.object({ ...jobRef, cancelled_by: z.string() }),
});

export const checkpointCreated = defineEvent({
  type: 'checkpoint.created',
  version: 1,
  owner: 'trainer',
  summary: 'A checkpoint is in the store, verified.',
  schema: z.object({
    checkpoint_id: uuid,
    job_id: uuid.nullable(),
    base_model: z.string(),
    storage_key: z.string(),
    sha256: z.string(),
    step: z.number().int(),
    epoch: z.number(),
    model_name: z.string(),
  }),
});

/** A metric with its 95% interval and the number of groups behind it. */
export const metricValue = z.object({
  value: z.number(),
  low: z.number().nullable(),
  high: z.number().nullable(),
  n: z.number().int(),
});

export const evaluationCompleted = defineEvent({
  type: 'evaluation.completed',
  version: 1,
  owner: 'trainer',
  summary: 'Candidate and incumbent were compared on the test split.',
  schema: z.object({
    evaluation_id: uuid,
    ...jobRef,
    checkpoint_id: uuid,
    before: z.record(z.string(), metricValue),
    after: z.record(z.string(), metricValue),
  }),
});

export const promotionDecided = defineEvent({
  type: 'promotion.decided',
  version: 1,
  owner: 'trainer',
  summary: 'The gate promoted the candidate or kept what serves.',
  schema: z.object({
    decision_id: uuid,
    ...jobRef,
    slot: z.string(),
    checkpoint_id: uuid,
    decision: z.enum(['promoted', 'kept']),
    reason: z.string(),
    decided_by: z.string(),
  }),
});

export const deploymentTarget = z.object({
  checkpoint_id: uuid.nullable(),
  base_model: z.string(),
  /** Where the adapter lies; null for the base. */
  storage_key: z.string().nullable(),
  weight: z.number().min(0).max(1),
});

export const deploymentChanged = defineEvent({
  type: 'deployment.changed',
  version: 1,
  owner: 'trainer',
  summary: 'What serves in a slot changed.',
  schema: z.object({
    slot: z.string(),
    version: z.number().int().min(1),
    targets: z.array(deploymentTarget).min(1).max(8),
    changed_by: z.string(),
    changed_at: timestamp,
  }),
});
