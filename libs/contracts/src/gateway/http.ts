import { z } from 'zod';
import { idParams, page, pageQuery, timeline, timestamp, uuid } from '../common.ts';
import { deadLetter, deadLetterQuery } from '../operations.ts';
import { defineRoute, SCOPES } from '../route.ts';
import { SERVICES } from '../services.ts';
import { projectChanged } from './events.ts';

export const role = z.enum(['owner', 'engineer', 'reviewer', 'viewer']);

export const getMe = defineRoute({
  service: 'gateway',
  operationId: 'get_me',
  method: 'GET',
  path: '/api/v1/me',
  summary: 'Who you are, for which project, and what you may do.',
  scope: 'read',
  response: z.object({
    project_id: uuid,
    project: z.object({ slug: z.string(), name: z.string() }),
    actor: z.string(),
    role: z.string(),
    scopes: z.array(z.enum(SCOPES)),
  }),
});

export const project = z.object({
  id: uuid,
  slug: z.string(),
  name: z.string(),
  version: z.number().int(),
  settings: projectChanged.schema.shape.settings,
  updated_at: timestamp,
});

export const getProject = defineRoute({
  service: 'gateway',
  operationId: 'get_project',
  method: 'GET',
  path: '/api/v1/project',
  summary: 'The project of your key, with its settings. The ETag is for If-Match.',
  scope: 'read',
  response: project,
});

export const updateProject = defineRoute({
  service: 'gateway',
  operationId: 'update_project',
  method: 'PATCH',
  path: '/api/v1/project',
  summary: 'Changes name or settings; settings left out stay. Needs If-Match.',
  scope: 'admin',
  body: z.object({
    name: z.string().min(1).max(200).optional(),
    settings: projectChanged.schema.shape.settings.partial().optional(),
  }),
  response: project,
});

export const apiKey = z.object({
  id: z.string(),
  name: z.string(),
  role,
  scopes: z.array(z.enum(SCOPES)),
  created_at: timestamp,
  created_by: z.string(),
  expires_at: timestamp.nullable(),
  last_used_at: timestamp.nullable(),
  revoked_at: timestamp.nullable(),
});

export const createApiKey = defineRoute({
  service: 'gateway',
  operationId: 'create_api_key',
  method: 'POST',
  path: '/api/v1/api-keys',
  summary: 'Makes a key. The whole key is in this answer only. A reviewer key in a link is an invitation.',
  scope: 'admin',
  status: 201,
  body: z.object({
    name: z.string().min(1).max(200),
    role: role.default('engineer'),
    expires_at: z.iso.datetime({ offset: true }).optional(),
  }),
  response: apiKey.extend({ key: z.string(), review_path: z.string() }),
});

export const listApiKeys = defineRoute({
  service: 'gateway',
  operationId: 'list_api_keys',
  method: 'GET',
  path: '/api/v1/api-keys',
  summary: 'Keys, without their secrets.',
  scope: 'admin',
  query: pageQuery,
  response: page(apiKey),
});

export const revokeApiKey = defineRoute({
  service: 'gateway',
  operationId: 'revoke_api_key',
  method: 'DELETE',
  path: '/api/v1/api-keys/{id}',
  summary: 'Revokes a key; it stops working everywhere within ten seconds.',
  scope: 'admin',
  params: z.object({ id: z.string().regex(/^[A-Za-z0-9]{8}$/, 'is the 8 characters after tl_') }),
  response: apiKey,
});

export const createNatsCredentials = defineRoute({
  service: 'gateway',
  operationId: 'create_nats_credentials',
  method: 'POST',
  path: '/api/v1/nats-credentials',
  summary:
    'Signs NATS credentials with which a collector may publish ext.<project>.* and read its rejects, nothing else.',
  scope: 'admin',
  status: 201,
  body: z.object({ ttl_seconds: z.number().int().min(60).max(31_536_000).default(2_592_000) }),
  response: z.object({
    url: z.string(),
    creds: z.string(),
    inbox_prefix: z.string(),
    expires_at: timestamp,
    subjects: z.array(z.string()),
    rejects: z.string(),
  }),
});

export const auditEntry = z.object({
  id: uuid,
  at: timestamp,
  actor: z.string(),
  action: z.string(),
  subject: z.string(),
  detail: z.record(z.string(), z.json()),
});

export const listAuditLog = defineRoute({
  service: 'gateway',
  operationId: 'list_audit_log',
  method: 'GET',
  path: '/api/v1/audit-log',
  summary: 'Who changed what, newest first.',
  scope: 'admin',
  query: pageQuery,
  response: page(auditEntry),
});

export const listDeadLetters = defineRoute({
  service: 'gateway',
  operationId: 'list_dead_letters',
  method: 'GET',
  path: '/api/v1/dead-letters',
  summary: 'Messages that could not be handled, of all services, with the reason.',
  scope: 'admin',
  query: deadLetterQuery.omit({ cursor: true }).extend({ service: z.enum(SERVICES).optional() }),
  response: z.object({ data: z.array(deadLetter), unavailable: z.array(z.enum(SERVICES)) }),
});

export const settleDeadLetterPublic = defineRoute({
  service: 'gateway',
  operationId: 'settle_dead_letter',
  method: 'POST',
  path: '/api/v1/dead-letters/{service}/{id}/{action}',
  summary: 'Replays or drops one dead letter.',
  scope: 'admin',
  params: z.object({ service: z.enum(SERVICES), id: uuid, action: z.enum(['replay', 'drop']) }),
  response: z.object({ id: uuid, status: z.enum(['replayed', 'dropped']) }),
});

export const whyRun = defineRoute({
  service: 'gateway',
  operationId: 'why_run',
  method: 'GET',
  path: '/api/v1/retraining-runs/{id}/timeline',
  summary: 'The story of one run: what each service did, in order.',
  scope: 'read',
  params: idParams,
  response: timeline,
});

export const streamEvents = defineRoute({
  service: 'gateway',
  operationId: 'stream_events',
  method: 'GET',
  path: '/api/v1/events',
  summary: "The project's events as server-sent events; resumes after Last-Event-ID.",
  scope: 'read',
  query: z.object({ types: z.string().max(1_000).optional() }),
  response: z.string(),
  produces: 'text/event-stream',
});

export const jwks = defineRoute({
  service: 'gateway',
  operationId: 'jwks',
  method: 'GET',
  path: '/.well-known/jwks.json',
  summary: "Public keys that verify the gateway's and the services' tokens.",
  scope: null,
  response: z.object({ keys: z.array(z.record(z.string(), z.json())) }),
});
