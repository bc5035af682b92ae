import { z } from 'zod';
import { page, pageQuery, timeline, timelineQuery, timestamp, uuid } from './common.ts';
import { defineRoute } from './route.ts';
import type { ServiceName } from './services.ts';

/** Routes that the runtime mounts in every service; the gateway gathers them for operators. */
export const deadLetter = z.object({
  id: uuid,
  service: z.string(),
  consumer: z.string(),
  event_id: uuid.nullable(),
  subject: z.string(),
  headers: z.record(z.string(), z.string()),
  body: z.string(),
  code: z.string(),
  error: z.string(),
  deliveries: z.number().int(),
  status: z.enum(['open', 'replayed', 'dropped']),
  created_at: timestamp,
});

export const deadLetterQuery = pageQuery.extend({ status: z.enum(['open', 'replayed', 'dropped']).default('open') });
export const deadLetterAction = z.object({ id: uuid, action: z.enum(['replay', 'drop']) });

/** An event that is committed and not yet on its stream. */
export const unpublishedEvent = z.object({
  id: uuid,
  /** CloudEvents type and dataschema, as on the wire. */
  type: z.string(),
  dataschema: z.string(),
  data: z.json(),
});
/** Events may be 256 KiB each; a page of them must fit into one answer. */
const MAX_UNPUBLISHED = 100;

export function operationsRoutes(service: ServiceName) {
  return {
    timeline: defineRoute({
      service,
      operationId: `${service}_timeline`,
      method: 'GET',
      path: `/internal/${service}/timeline`,
      summary: 'What this service published for one turn of the loop.',
      scope: 'service',
      query: timelineQuery,
      response: timeline,
    }),
    unpublished: defineRoute({
      service,
      operationId: `${service}_list_unpublished`,
      method: 'GET',
      path: `/internal/${service}/unpublished`,
      summary: 'Events of the project that are not on the stream yet, in order; for readers that must not wait for it.',
      scope: 'service',
      query: pageQuery.extend({ limit: z.coerce.number().int().min(1).max(MAX_UNPUBLISHED).default(MAX_UNPUBLISHED) }),
      response: page(unpublishedEvent),
    }),
    deadLetters: defineRoute({
      service,
      operationId: `${service}_list_dead_letters`,
      method: 'GET',
      path: `/internal/${service}/dead-letters`,
      summary: "This service's dead letters of the project, newest first.",
      scope: 'service',
      query: deadLetterQuery,
      response: page(deadLetter),
    }),
    settleDeadLetter: defineRoute({
      service,
      operationId: `${service}_settle_dead_letter`,
      method: 'POST',
      path: `/internal/${service}/dead-letters/settle`,
      summary: 'Replays or drops one dead letter.',
      scope: 'service',
      body: deadLetterAction,
      response: z.object({ id: uuid, status: z.enum(['replayed', 'dropped']) }),
    }),
  } as const;
}
