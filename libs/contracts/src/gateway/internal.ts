import { z } from 'zod';
import { idParams, uuid } from '../common.ts';
import { defineRoute, SCOPES } from '../route.ts';
import { projectChanged } from './events.ts';

export const verifyKey = defineRoute({
  service: 'gateway',
  operationId: 'internal_verify_key',
  method: 'POST',
  path: '/internal/gateway/keys/verify',
  summary: 'Whom an API key stands for; 401 when unknown, expired or revoked.',
  scope: 'service',
  body: z.object({ key: z.string().max(200) }),
  response: z.object({
    key_id: z.string(),
    project_id: uuid,
    role: z.enum(['owner', 'engineer', 'reviewer', 'viewer']),
    scopes: z.array(z.enum(SCOPES)),
    expires_at: z.string().nullable(),
  }),
});

export const getProjectInternal = defineRoute({
  service: 'gateway',
  operationId: 'internal_get_project',
  method: 'GET',
  path: '/internal/gateway/projects/{id}',
  summary: 'Settings of a project; for readers that have not seen project.changed yet.',
  scope: 'service',
  params: idParams,
  response: projectChanged.schema,
});
