import { z } from 'zod';
import { idParams, timestamp, uuid } from '../common.ts';
import { defineRoute } from '../route.ts';
import { checkpointCreated, deploymentChanged } from './events.ts';

export const listDeploymentsInternal = defineRoute({
  service: 'trainer',
  operationId: 'internal_list_deployments',
  method: 'GET',
  path: '/internal/trainer/deployments',
  summary: "What serves in each of the project's slots now.",
  scope: 'service',
  response: z.object({ data: z.array(deploymentChanged.schema) }),
});

export const getCheckpointInternal = defineRoute({
  service: 'trainer',
  operationId: 'internal_get_checkpoint',
  method: 'GET',
  path: '/internal/trainer/checkpoints/{id}',
  summary: 'One checkpoint by id.',
  scope: 'service',
  params: idParams,
  response: checkpointCreated.schema,
});

export const findModelInternal = defineRoute({
  service: 'trainer',
  operationId: 'internal_find_model',
  method: 'GET',
  path: '/internal/trainer/models',
  summary: 'The checkpoint behind an ft: model name; for readers that have not seen checkpoint.created yet.',
  scope: 'service',
  query: z.object({ model_name: z.string().max(400) }),
  response: checkpointCreated.schema,
});

export const touchedCheckpoint = z.object({
  id: uuid,
  /** As it was asked for: `ft:…` for trained ones. */
  model_name: z.string().nullable(),
  version: z.string(),
  slot: z.string(),
  is_active: z.boolean(),
  /** The version that it, or a checkpoint that it started from, was trained on. */
  dataset_version_id: uuid,
  created_at: timestamp,
});

export const findCheckpointsOfVersions = defineRoute({
  service: 'trainer',
  operationId: 'internal_find_checkpoints_of_versions',
  method: 'POST',
  path: '/internal/trainer/checkpoints/of-versions',
  summary: 'Checkpoints that were trained on any of these dataset versions, or started from one that was.',
  scope: 'service',
  body: z.object({ dataset_version_ids: z.array(uuid).max(10_000) }),
  response: z.object({ data: z.array(touchedCheckpoint) }),
});

export const rowRef = z.object({ id: uuid });
