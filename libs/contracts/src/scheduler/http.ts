import { z } from 'zod';
import { idParams, page, pageQuery, slot, timestamp, uuid } from '../common.ts';
import { datasetSpec } from '../datasets/events.ts';
import { defineRoute } from '../route.ts';
import { trainingMethod } from '../trainer/events.ts';
import { hyperparameters, priority, retrainingSource } from './events.ts';

export const retrainingRequest = z.object({
  id: uuid,
  requested_by: z.string(),
  reason: z.string(),
  priority,
  status: z.enum(['pending', 'processing', 'completed', 'cancelled']),
  slot: z.string(),
  method: trainingMethod,
  source: retrainingSource,
  created_at: timestamp,
  processed_at: timestamp.nullable(),
  retraining_run_id: uuid.nullable(),
});

export const retrainingRun = z.object({
  id: uuid,
  request_id: uuid,
  source: retrainingSource,
  slot: z.string(),
  status: z.enum(['pending', 'running', 'completed', 'failed']),
  /** What the run waits for while it is pending or running. */
  stage: z.enum(['dataset', 'training', 'evaluation', 'done']),
  deadline_at: timestamp.nullable(),
  dataset_size: z.number().int().nullable(),
  dataset_version_id: uuid.nullable(),
  job_id: uuid.nullable(),
  checkpoint_id: uuid.nullable(),
  fine_tune_flag: z.boolean(),
  /** `promoted`, `kept`, or `no_action` when there was too little data. */
  outcome: z.enum(['promoted', 'kept', 'no_action']).nullable(),
  metrics: z.json().nullable(),
  log_url: z.string().nullable(),
  error_message: z.string().nullable(),
  triggered_by: z.string(),
  started_at: timestamp.nullable(),
  completed_at: timestamp.nullable(),
  created_at: timestamp,
  updated_at: timestamp,
});
export type RetrainingRun = z.output<typeof retrainingRun>;

export const createRetrainingRequest = defineRoute({
  service: 'scheduler',
  operationId: 'create_retraining_request',
  method: 'POST',
  path: '/api/v1/retraining-requests',
  summary: 'Asks for one turn of the loop. High priority goes first; one run at a time per slot.',
  scope: 'train',
  status: 201,
  body: z.object({
    reason: z.string().min(1).max(2_000),
    priority: priority.default('normal'),
    slot,
    method: trainingMethod.default('dpo'),
    base_model: z.string().max(400).optional(),
    start_from: z.string().max(400).default('base'),
    reference: z.string().max(400).default('base'),
    seed: z.number().int().min(0).max(2_147_483_647).optional(),
    hyperparameters: hyperparameters.default({}),
    dataset: datasetSpec.prefault({}),
  }),
  response: retrainingRequest,
});

export const listRetrainingRequests = defineRoute({
  service: 'scheduler',
  operationId: 'list_retraining_requests',
  method: 'GET',
  path: '/api/v1/retraining-requests',
  summary: 'Requests, newest first.',
  scope: 'read',
  query: pageQuery,
  response: page(retrainingRequest),
});

export const getRetrainingRequest = defineRoute({
  service: 'scheduler',
  operationId: 'get_retraining_request',
  method: 'GET',
  path: '/api/v1/retraining-requests/{id}',
  summary: 'One request.',
  scope: 'read',
  params: idParams,
  response: retrainingRequest,
});

export const cancelRetrainingRequest = defineRoute({
  service: 'scheduler',
  operationId: 'cancel_retraining_request',
  method: 'DELETE',
  path: '/api/v1/retraining-requests/{id}',
  summary: 'Cancels a request that has not started.',
  scope: 'train',
  params: idParams,
  response: retrainingRequest,
});

export const listRetrainingRuns = defineRoute({
  service: 'scheduler',
  operationId: 'list_retraining_runs',
  method: 'GET',
  path: '/api/v1/retraining-runs',
  summary: 'Runs, newest first.',
  scope: 'read',
  query: pageQuery,
  response: page(retrainingRun),
});

export const getRetrainingRun = defineRoute({
  service: 'scheduler',
  operationId: 'get_retraining_run',
  method: 'GET',
  path: '/api/v1/retraining-runs/{id}',
  summary: 'One run.',
  scope: 'read',
  params: idParams,
  response: retrainingRun,
});

export const schedule = z.object({
  cron: z.string(),
  time_zone: z.string(),
  paused: z.boolean(),
  next_run_at: timestamp.nullable(),
  last_run_at: timestamp.nullable(),
});

export const getSchedule = defineRoute({
  service: 'scheduler',
  operationId: 'get_schedule',
  method: 'GET',
  path: '/api/v1/schedule',
  summary: "The project's daily retraining schedule and when it fires next.",
  scope: 'read',
  response: schedule,
});

export const updateSchedule = defineRoute({
  service: 'scheduler',
  operationId: 'update_schedule',
  method: 'PUT',
  path: '/api/v1/schedule',
  summary: 'Sets cron expression and time zone, or pauses.',
  scope: 'train',
  body: z.object({
    cron: z.string().min(1).max(200).default('0 2 * * *'),
    time_zone: z.string().min(1).max(100).default('UTC'),
    paused: z.boolean().default(false),
  }),
  response: schedule,
});
