import { z } from 'zod';
import { idParams, metadata, page, pageQuery, slot, timestamp, uuid } from '../common.ts';
import { defineRoute } from '../route.ts';
import { hyperparameters } from '../scheduler/events.ts';
import { deploymentTarget, metricValue, trainingMethod } from './events.ts';

const slotName = slot.unwrap();
const slotParams = z.object({ slot: slotName });
const json = z.record(z.string(), z.json());

export const trainingJobStatus = z.enum([
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
]);

export const jobError = z.object({ code: z.string(), message: z.string(), param: z.string().nullable() });

export const jobProgress = z.object({
  step: z.number().int(),
  total_steps: z.number().int(),
  epoch: z.number(),
  percent: z.number(),
  loss: z.number().nullable(),
  eval_loss: z.number().nullable(),
  learning_rate: z.number().nullable(),
  grad_norm: z.number().nullable(),
  tokens_per_second: z.number().nullable(),
  seconds_left: z.number().nullable(),
});

export const trainingJob = z.object({
  id: uuid,
  request_id: uuid.nullable(),
  correlation_id: uuid,
  /** `loop`: a retraining run; `direct`: this API; `openai`: /v1/fine_tuning/jobs. */
  source: z.enum(['loop', 'direct', 'openai']),
  status: trainingJobStatus,
  method: trainingMethod,
  slot: z.string(),
  base_model: z.string(),
  start_from: z.string(),
  reference: z.string(),
  seed: z.number().int(),
  suffix: z.string().nullable(),
  /** Whether the checkpoint is compared with what serves, and may be promoted. */
  evaluate: z.boolean(),
  /** As asked for. */
  hyperparameters,
  /** As used: with the method's defaults. Null before the start. */
  settings: json.nullable(),
  dataset_version_id: uuid.nullable(),
  progress: jobProgress.nullable(),
  result: z
    .object({
      steps: z.number().int(),
      first_loss: z.number(),
      last_loss: z.number(),
      eval_loss: z.number().nullable(),
      trained_tokens: z.number().int(),
      examples: z.number().int(),
      skipped_too_long: z.number().int(),
      tokens_per_second: z.number(),
      peak_memory_mb: z.number(),
      seconds: z.number(),
    })
    .nullable(),
  checkpoint_id: uuid.nullable(),
  error: jobError.nullable(),
  requested_by: z.string(),
  cancelled_by: z.string().nullable(),
  created_at: timestamp,
  started_at: timestamp.nullable(),
  trained_at: timestamp.nullable(),
  completed_at: timestamp.nullable(),
});
export type TrainingJob = z.output<typeof trainingJob>;

export const createTrainingJob = defineRoute({
  service: 'trainer',
  operationId: 'create_training_job',
  method: 'POST',
  path: '/api/v1/training-jobs',
  summary: 'Trains on a dataset version that there is. For data that is still to be gathered, ask for a retraining.',
  scope: 'train',
  tag: 'Training',
  status: 201,
  body: z.object({
    dataset_version_id: uuid,
    method: trainingMethod,
    slot,
    /** The project's model unless given. */
    base_model: z.string().min(1).max(200).optional(),
    /** `base`, a checkpoint id or an ft: name. */
    start_from: z.string().min(1).max(400).default('base'),
    reference: z.string().min(1).max(400).default('base'),
    seed: z.number().int().min(0).max(2_147_483_647).optional(),
    suffix: z.string().min(1).max(64).optional(),
    hyperparameters: hyperparameters.default({}),
    evaluate: z.boolean().default(true),
  }),
  response: trainingJob,
});

export const listTrainingJobs = defineRoute({
  service: 'trainer',
  operationId: 'list_training_jobs',
  method: 'GET',
  path: '/api/v1/training-jobs',
  summary: 'Training jobs, newest first.',
  scope: 'read',
  tag: 'Training',
  query: pageQuery.extend({
    status: trainingJobStatus.optional(),
    slot: slotName.optional(),
    request_id: uuid.optional(),
  }),
  response: page(trainingJob),
});

export const getTrainingJob = defineRoute({
  service: 'trainer',
  operationId: 'get_training_job',
  method: 'GET',
  path: '/api/v1/training-jobs/{id}',
  summary: 'One training job with its progress.',
  scope: 'read',
  tag: 'Training',
  params: idParams,
  response: trainingJob,
});

const jobAction = (action: 'cancel' | 'pause' | 'resume', summary: string) =>
  defineRoute({
    service: 'trainer',
    operationId: `${action}_training_job`,
    method: 'POST',
    path: `/api/v1/training-jobs/{id}/${action}`,
    summary,
    scope: 'train',
    tag: 'Training',
    params: idParams,
    response: trainingJob,
  });

export const cancelTrainingJob = jobAction('cancel', 'Stops a job within seconds; it does not come back.');
export const pauseTrainingJob = jobAction('pause', 'Stops a job and keeps its state.');
export const resumeTrainingJob = jobAction('resume', 'Goes on with a paused job from its state.');

export const listTrainingMetrics = defineRoute({
  service: 'trainer',
  operationId: 'list_training_metrics',
  method: 'GET',
  path: '/api/v1/training-jobs/{id}/metrics',
  summary: "A job's curve, one entry a step, in the order of steps. The cursor is the last step seen.",
  scope: 'read',
  tag: 'Training',
  params: idParams,
  query: z.object({
    limit: z.number().int().min(1).max(5_000).default(1_000),
    cursor: z
      .string()
      .regex(/^\d{1,9}$/)
      .optional(),
  }),
  response: page(
    z.object({
      step: z.number().int(),
      epoch: z.number(),
      loss: z.number(),
      eval_loss: z.number().nullable(),
      learning_rate: z.number(),
      grad_norm: z.number(),
      tokens_per_second: z.number(),
      reward_margin: z.number().nullable(),
      accuracy: z.number().nullable(),
      created_at: timestamp,
    }),
  ),
});

export const checkpoint = z.object({
  id: uuid,
  job_id: uuid.nullable(),
  slot: z.string(),
  origin: z.enum(['trained', 'posted']),
  version: z.string(),
  storage_key: z.string(),
  url: z.string().nullable(),
  sha256: z.string().nullable(),
  base_model: z.string().nullable(),
  /** What to name in a chat request. */
  model_name: z.string().nullable(),
  step: z.number().int().nullable(),
  epoch: z.number(),
  avg_reward: z.number().nullable(),
  metrics: json,
  /** Job, request, dataset version and hash, start and reference. */
  lineage: json,
  /** What the bytes depend on: base, settings, seed, libraries, threads, CPU. */
  manifest: json,
  is_active: z.boolean(),
  created_at: timestamp,
  updated_at: timestamp,
});
export type Checkpoint = z.output<typeof checkpoint>;

export const listCheckpoints = defineRoute({
  service: 'trainer',
  operationId: 'list_checkpoints',
  method: 'GET',
  path: '/api/v1/checkpoints',
  summary: 'Checkpoints, newest first.',
  scope: 'read',
  tag: 'Models',
  query: pageQuery.extend({
    slot: slotName.optional(),
    job_id: uuid.optional(),
    active_only: z.boolean().default(false),
  }),
  response: page(checkpoint),
});

export const getCheckpoint = defineRoute({
  service: 'trainer',
  operationId: 'get_checkpoint',
  method: 'GET',
  path: '/api/v1/checkpoints/{id}',
  summary: 'One checkpoint with its lineage and manifest.',
  scope: 'read',
  tag: 'Models',
  params: idParams,
  response: checkpoint,
});

export const activateCheckpoint = defineRoute({
  service: 'trainer',
  operationId: 'activate_checkpoint',
  method: 'POST',
  path: '/api/v1/checkpoints/{id}/activate',
  summary: 'Serves this checkpoint in its slot, past the gate. The reason is kept with the deployment.',
  scope: 'admin',
  tag: 'Models',
  params: idParams,
  body: z.object({ reason: z.string().min(1).max(2_000) }),
  response: checkpoint,
});

const PEFT_FILES = ['adapter_config.json', 'adapter_model.safetensors'] as const;

export const downloadCheckpointFile = defineRoute({
  service: 'trainer',
  operationId: 'download_checkpoint_file',
  method: 'GET',
  path: '/api/v1/checkpoints/{id}/files/{name}',
  summary: 'One file of the adapter in PEFT format; both in a folder load with PeftModel.from_pretrained.',
  scope: 'read',
  tag: 'Models',
  params: idParams.extend({ name: z.enum(PEFT_FILES) }),
  response: z.string(),
  produces: 'application/octet-stream',
});

const metrics = z.record(z.string(), metricValue);

export const evaluation = z.object({
  id: uuid,
  job_id: uuid,
  checkpoint_id: uuid,
  slot: z.string(),
  status: z.enum(['queued', 'running', 'completed', 'failed', 'cancelled']),
  /** What it was compared with. */
  incumbent: deploymentTarget.omit({ weight: true }).nullable(),
  progress: z.object({ stage: z.string(), done: z.number().int(), total: z.number().int() }).nullable(),
  before: metrics.nullable(),
  after: metrics.nullable(),
  /** After minus before, paired by prompt. */
  difference: metrics.nullable(),
  judge: z.object({ kind: z.string(), name: z.string() }).nullable(),
  error: jobError.nullable(),
  created_at: timestamp,
  started_at: timestamp.nullable(),
  completed_at: timestamp.nullable(),
});
export type Evaluation = z.output<typeof evaluation>;

export const listEvaluations = defineRoute({
  service: 'trainer',
  operationId: 'list_evaluations',
  method: 'GET',
  path: '/api/v1/evaluations',
  summary: 'Evaluations, newest first; of one job or checkpoint when asked.',
  scope: 'read',
  tag: 'Models',
  query: pageQuery.extend({ job_id: uuid.optional(), checkpoint_id: uuid.optional() }),
  response: page(evaluation),
});

export const getEvaluation = defineRoute({
  service: 'trainer',
  operationId: 'get_evaluation',
  method: 'GET',
  path: '/api/v1/evaluations/{id}',
  summary: 'One evaluation: every metric before and after with its interval.',
  scope: 'read',
  tag: 'Models',
  params: idParams,
  response: evaluation,
});

/** One line of an evaluation's samples. */
export const evaluationSample = z.object({
  group_key: z.string(),
  messages: z.array(json),
  facts: z.record(z.string(), z.string()).nullable(),
  image_id: uuid.nullable(),
  before: z.array(z.string()),
  after: z.array(z.string()),
  comparisons: z.array(json),
});

export const downloadEvaluationSamples = defineRoute({
  service: 'trainer',
  operationId: 'download_evaluation_samples',
  method: 'GET',
  path: '/api/v1/evaluations/{id}/samples',
  summary: 'The test prompts with the answers of both sides and their verdicts, as NDJSON.',
  scope: 'read',
  tag: 'Models',
  params: idParams,
  response: z.string(),
  produces: 'application/x-ndjson',
});

export const promotionDecision = z.object({
  id: uuid,
  slot: z.string(),
  job_id: uuid,
  evaluation_id: uuid,
  checkpoint_id: uuid,
  decision: z.enum(['promoted', 'kept']),
  /** One sentence that a person can read. */
  reason: z.string(),
  decided_by: z.string(),
  /** Every number of the gate: primary metric, guards, blockers, alpha spent. */
  numbers: json,
  created_at: timestamp,
  overridden_at: timestamp.nullable(),
});
export type PromotionDecision = z.output<typeof promotionDecision>;

export const listPromotionDecisions = defineRoute({
  service: 'trainer',
  operationId: 'list_promotion_decisions',
  method: 'GET',
  path: '/api/v1/promotion-decisions',
  summary: 'What the gate decided, newest first.',
  scope: 'read',
  tag: 'Models',
  query: pageQuery.extend({ slot: slotName.optional(), job_id: uuid.optional() }),
  response: page(promotionDecision),
});

export const getPromotionDecision = defineRoute({
  service: 'trainer',
  operationId: 'get_promotion_decision',
  method: 'GET',
  path: '/api/v1/promotion-decisions/{id}',
  summary: 'One decision with all its numbers.',
  scope: 'read',
  tag: 'Models',
  params: idParams,
  response: promotionDecision,
});

export const overridePromotionDecision = defineRoute({
  service: 'trainer',
  operationId: 'override_promotion_decision',
  method: 'POST',
  path: '/api/v1/promotion-decisions/{id}/override',
  summary: 'A person decides otherwise: kept becomes promoted, promoted is rolled back. Name and reason are kept.',
  scope: 'admin',
  tag: 'Models',
  params: idParams,
  body: z.object({ reason: z.string().trim().min(1).max(2_000) }),
  response: promotionDecision,
});

export const deployment = z.object({
  slot: z.string(),
  /** 0: nothing was deployed yet; the project's base serves. */
  version: z.number().int(),
  targets: z.array(deploymentTarget),
  changed_by: z.string().nullable(),
  reason: z.string().nullable(),
  /** The version that a rollback brought back. */
  restores: z.number().int().nullable(),
  changed_at: timestamp.nullable(),
});
export type Deployment = z.output<typeof deployment>;

export const listDeployments = defineRoute({
  service: 'trainer',
  operationId: 'list_deployments',
  method: 'GET',
  path: '/api/v1/deployments',
  summary: 'What serves in each slot.',
  scope: 'read',
  tag: 'Models',
  response: z.object({ data: z.array(deployment) }),
});

const slotDeployment = deployment.extend({ allow_posted_checkpoints: z.boolean() });

export const getDeployment = defineRoute({
  service: 'trainer',
  operationId: 'get_deployment',
  method: 'GET',
  path: '/api/v1/deployments/{slot}',
  summary: 'What serves in one slot.',
  scope: 'read',
  tag: 'Models',
  params: slotParams,
  response: slotDeployment,
});

export const updateDeployment = defineRoute({
  service: 'trainer',
  operationId: 'update_deployment',
  method: 'PUT',
  path: '/api/v1/deployments/{slot}',
  summary: 'Whether checkpoints that were posted, not trained here, may serve in this slot once verified.',
  scope: 'admin',
  tag: 'Models',
  params: slotParams,
  body: z.object({ allow_posted_checkpoints: z.boolean() }),
  response: slotDeployment,
});

export const listDeploymentHistory = defineRoute({
  service: 'trainer',
  operationId: 'list_deployment_history',
  method: 'GET',
  path: '/api/v1/deployments/{slot}/history',
  summary: 'What served in a slot, newest first. The cursor is the last version seen.',
  scope: 'read',
  tag: 'Models',
  params: slotParams,
  query: z.object({
    limit: z.number().int().min(1).max(500).default(50),
    cursor: z
      .string()
      .regex(/^\d{1,9}$/)
      .optional(),
  }),
  response: page(deployment),
});

export const rollbackDeployment = defineRoute({
  service: 'trainer',
  operationId: 'rollback_deployment',
  method: 'POST',
  path: '/api/v1/deployments/{slot}/rollback',
  summary: 'Brings back what served before; again for the one before that.',
  scope: 'train',
  tag: 'Models',
  params: slotParams,
  body: z.object({ reason: z.string().min(1).max(2_000).default('rolled back') }).prefault({}),
  response: deployment,
});

const RFT_PATH = '/functions/v1/rft-checkpoints';
const success = z.literal(true);

export const rftCheckpoint = z.object({
  id: uuid,
  version: z.string(),
  storage_key: z.string(),
  url: z.string().nullable(),
  epoch: z.number(),
  avg_reward: z.number().nullable(),
  is_active: z.boolean(),
  metadata,
  created_at: timestamp,
  updated_at: timestamp,
});

const versionText = z.string().min(1, 'must not be empty').max(200);
const storageKey = z.string().min(1, 'must not be empty').max(1_000);
const epoch = z.number().min(0).max(1_000_000);
const avgReward = z.number().min(-1_000).max(1_000);

export const createRftCheckpoint = defineRoute({
  service: 'trainer',
  operationId: 'rft_checkpoints_create',
  method: 'POST',
  path: RFT_PATH,
  summary: 'Records a checkpoint. Nothing is served from it unless its artefact is in the store, verified and allowed.',
  scope: 'train',
  tag: 'Functions',
  body: z.object({
    version: versionText,
    storage_key: storageKey,
    url: z.string().max(2_000).nullish(),
    epoch: epoch.default(0),
    avg_reward: avgReward.nullish(),
    is_active: z.boolean().default(false),
  }),
  response: z.object({ success, data: rftCheckpoint }),
});

export const listRftCheckpoints = defineRoute({
  service: 'trainer',
  operationId: 'rft_checkpoints_list',
  method: 'GET',
  path: RFT_PATH,
  summary: 'Checkpoints, newest first, and statistics of all that match.',
  scope: 'read',
  tag: 'Functions',
  query: z.object({
    version: z.string().max(200).optional(),
    active_only: z.boolean().default(false),
    limit: z.number().int().min(1).max(1_000).default(50),
    offset: z.number().int().min(0).max(1_000_000_000).default(0),
  }),
  response: z.object({
    success,
    data: z.array(rftCheckpoint),
    count: z.number().int(),
    stats: z.object({
      total_checkpoints: z.number().int(),
      active_checkpoints: z.number().int(),
      latest_epoch: z.number(),
      best_avg_reward: z.number(),
      versions: z.array(z.string()),
    }),
  }),
});

export const updateRftCheckpoint = defineRoute({
  service: 'trainer',
  operationId: 'rft_checkpoints_update',
  method: 'PUT',
  path: RFT_PATH,
  summary: 'Changes a checkpoint; is_active true makes it the only active one.',
  scope: 'train',
  tag: 'Functions',
  query: z.object({ id: uuid }),
  body: z
    .object({
      version: versionText.optional(),
      storage_key: storageKey.optional(),
      url: z.string().max(2_000).nullable().optional(),
      epoch: epoch.optional(),
      avg_reward: avgReward.nullable().optional(),
      is_active: z.boolean().optional(),
    })
    .refine((body) => Object.values(body).some((value) => value !== undefined), {
      path: ['is_active'],
      message: 'is required, or version, storage_key, url, epoch or avg_reward: give what to change',
    }),
  response: z.object({ success, data: rftCheckpoint }),
});

export const deleteRftCheckpoint = defineRoute({
  service: 'trainer',
  operationId: 'rft_checkpoints_delete',
  method: 'DELETE',
  path: RFT_PATH,
  summary: 'Deletes a checkpoint that is not active.',
  scope: 'train',
  tag: 'Functions',
  query: z.object({ id: uuid }),
  response: z.object({ success, message: z.string() }),
});
