import { z } from 'zod';
import { idParams, uuid } from '../common.ts';
import { defineRoute, SCOPES } from '../route.ts';
import { projectChanged } from './events.ts';

/** `valid: false` says nothing more: unknown, expired and revoked look alike from outside. */
export const verifyKey = defineRoute({
  service: 'gateway',
  operationId: 'internal_verify_key',
  method: 'POST',
  path: '/internal/gateway/keys/verify',
  summary: 'Whom an API key stands for.',
  scope: 'service',
  body: z.object({ key: z.string().max(200) }),
  response: z.discriminatedUnion('valid', [
    z.object({ valid: z.literal(false) }),
    z.object({
      valid: z.literal(true),
      project_id: uuid,
      key_id: z.string().max(100),
      scopes: z.array(z.enum(SCOPES)),
      role: z.string().max(100).default(''),
      expires_at: z.iso.datetime({ offset: true }).nullable().default(null),
    }),
  ]),
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

/** What an operator with the installation's secret may do before anyone has a key. */
export const bootstrapProject = defineRoute({
  service: 'gateway',
  operationId: 'internal_bootstrap_project',
  method: 'POST',
  path: '/internal/gateway/bootstrap',
  summary: 'Creates a project with the given id and slug, or finds it; makes a new owner key when asked.',
  scope: 'service',
  body: z.object({
    project_id: uuid,
    slug: z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/),
    name: z.string().min(1).max(200),
    settings: projectChanged.schema.shape.settings.prefault({}),
    make_key: z.boolean().default(false),
    key_name: z.string().max(200).default('owner'),
  }),
  response: z.object({
    project_id: uuid,
    created: z.boolean(),
    /** Shown this once. */
    api_key: z.string().nullable(),
  }),
});
