import { z } from 'zod';
import { idParams, uuid } from '../common.ts';
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

export const rowRef = z.object({ id: uuid });
