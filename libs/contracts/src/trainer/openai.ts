import { z } from 'zod';
import { defineRoute } from '../route.ts';

/** `/v1/fine_tuning/jobs` as OpenAI's API reference writes it. Objects stay open on the way in: what we do not use is kept out, not refused. */
const PATH = '/v1/fine_tuning/jobs';
const MAX_METADATA_PAIRS = 16;

const auto = z.literal('auto');
const hyperparameters = z.looseObject({
  n_epochs: z.union([auto, z.number().int().min(1).max(50)]).optional(),
  batch_size: z.union([auto, z.number().int().min(1).max(256)]).nullish(),
  learning_rate_multiplier: z.union([auto, z.number().positive().max(1_000)]).optional(),
});
const dpoHyperparameters = hyperparameters.extend({
  beta: z.union([auto, z.number().positive().max(2)]).optional(),
});
const methodType = z.enum(['supervised', 'dpo', 'reinforcement']);

const jobMetadata = z
  .record(z.string().max(64), z.string().max(512))
  .refine((pairs) => Object.keys(pairs).length <= MAX_METADATA_PAIRS, `must have at most ${MAX_METADATA_PAIRS} pairs`);

const integration = z.looseObject({ type: z.string().max(64) });

export const fineTuningJobRequest = z.looseObject({
  model: z.string().min(1).max(400),
  training_file: z.string().min(1).max(200),
  validation_file: z.string().min(1).max(200).nullish(),
  suffix: z.string().min(1).max(64).nullish(),
  seed: z.number().int().min(0).max(2_147_483_647).nullish(),
  /** The older place; `method.<type>.hyperparameters` goes before it. */
  hyperparameters: hyperparameters.nullish(),
  method: z
    .looseObject({
      type: methodType,
      supervised: z.looseObject({ hyperparameters: hyperparameters.nullish() }).nullish(),
      dpo: z.looseObject({ hyperparameters: dpoHyperparameters.nullish() }).nullish(),
    })
    .nullish(),
  metadata: jobMetadata.nullish(),
  integrations: z.array(integration).max(5).nullish(),
});
export type FineTuningJobRequest = z.output<typeof fineTuningJobRequest>;

const shownHyperparameters = z.record(z.string(), z.union([z.literal('auto'), z.number()]));

export const fineTuningJob = z.object({
  id: z.string(),
  object: z.literal('fine_tuning.job'),
  created_at: z.number().int(),
  error: z.object({ code: z.string(), message: z.string(), param: z.string().nullable() }).nullable(),
  fine_tuned_model: z.string().nullable(),
  finished_at: z.number().int().nullable(),
  hyperparameters: shownHyperparameters,
  model: z.string(),
  organization_id: z.string(),
  result_files: z.array(z.string()),
  seed: z.number().int(),
  status: z.enum(['validating_files', 'queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled']),
  trained_tokens: z.number().int().nullable(),
  training_file: z.string(),
  validation_file: z.string().nullable(),
  estimated_finish: z.number().int().nullable(),
  integrations: z.array(z.record(z.string(), z.json())).nullable(),
  metadata: z.record(z.string(), z.string()).nullable(),
  method: z.object({
    type: z.enum(['supervised', 'dpo']),
    supervised: z.object({ hyperparameters: shownHyperparameters }).optional(),
    dpo: z.object({ hyperparameters: shownHyperparameters }).optional(),
  }),
});
export type FineTuningJob = z.output<typeof fineTuningJob>;

export const fineTuningJobEvent = z.object({
  id: z.string(),
  object: z.literal('fine_tuning.job.event'),
  created_at: z.number().int(),
  level: z.enum(['info', 'warn', 'error']),
  message: z.string(),
  type: z.enum(['message', 'metrics']),
  data: z.record(z.string(), z.json()),
});

export const fineTuningJobCheckpoint = z.object({
  id: z.string(),
  object: z.literal('fine_tuning.job.checkpoint'),
  created_at: z.number().int(),
  fine_tuned_model_checkpoint: z.string(),
  fine_tuning_job_id: z.string(),
  step_number: z.number().int(),
  metrics: z.object({
    step: z.number(),
    train_loss: z.number().optional(),
    train_mean_token_accuracy: z.number().optional(),
    valid_loss: z.number().optional(),
    valid_mean_token_accuracy: z.number().optional(),
    full_valid_loss: z.number().optional(),
    full_valid_mean_token_accuracy: z.number().optional(),
  }),
});

const list = <T extends z.ZodType>(item: T) =>
  z.object({ object: z.literal('list'), data: z.array(item), has_more: z.boolean() });
const listQuery = z.looseObject({
  after: z.string().max(100).optional(),
  limit: z.number().int().min(1).max(100).default(20),
});
const jobParams = z.object({ id: z.string().max(100) });
const shared = { service: 'trainer', tag: 'Fine-tuning' } as const;

export const createFineTuningJob = defineRoute({
  ...shared,
  operationId: 'create_fine_tuning_job',
  method: 'POST',
  path: PATH,
  summary: 'Fine-tunes a base on an uploaded file, as OpenAI does. A retry by the SDK finds the job made first.',
  scope: 'train',
  body: fineTuningJobRequest,
  response: fineTuningJob,
});

export const listFineTuningJobs = defineRoute({
  ...shared,
  operationId: 'list_fine_tuning_jobs',
  method: 'GET',
  path: PATH,
  summary: 'Fine-tuning jobs, newest first; `metadata[key]=value` filters.',
  scope: 'read',
  query: listQuery,
  response: list(fineTuningJob),
});

export const retrieveFineTuningJob = defineRoute({
  ...shared,
  operationId: 'retrieve_fine_tuning_job',
  method: 'GET',
  path: `${PATH}/{id}`,
  summary: 'One fine-tuning job.',
  scope: 'read',
  params: jobParams,
  response: fineTuningJob,
});

const action = (name: 'cancel' | 'pause' | 'resume', summary: string) =>
  defineRoute({
    ...shared,
    operationId: `${name}_fine_tuning_job`,
    method: 'POST',
    path: `${PATH}/{id}/${name}`,
    summary,
    scope: 'train',
    params: jobParams,
    response: fineTuningJob,
  });

export const cancelFineTuningJob = action('cancel', 'Cancels a fine-tuning job.');
export const pauseFineTuningJob = action('pause', 'Pauses a fine-tuning job; its state is kept.');
export const resumeFineTuningJob = action('resume', 'Resumes a paused fine-tuning job.');

export const listFineTuningEvents = defineRoute({
  ...shared,
  operationId: 'list_fine_tuning_events',
  method: 'GET',
  path: `${PATH}/{id}/events`,
  summary: 'What happened to a job, newest first: messages and step metrics.',
  scope: 'read',
  params: jobParams,
  query: listQuery,
  response: list(fineTuningJobEvent),
});

export const listFineTuningCheckpoints = defineRoute({
  ...shared,
  operationId: 'list_fine_tuning_checkpoints',
  method: 'GET',
  path: `${PATH}/{id}/checkpoints`,
  summary: 'Checkpoints of a job that can be used as models.',
  scope: 'read',
  params: jobParams,
  query: listQuery,
  response: list(fineTuningJobCheckpoint).extend({ first_id: z.string().nullable(), last_id: z.string().nullable() }),
});
