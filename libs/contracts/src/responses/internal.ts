import { z } from 'zod';
import { idParams, page, pageQuery, text, uuid } from '../common.ts';
import { defineRoute } from '../route.ts';
import { chatMessage, responseRecord } from './events.ts';
import { responseFormat } from './openai.ts';

/** The bound of one generation call; callers page over more. */
export const MAX_GENERATE_ITEMS = 64;

export const generateTarget = z.object({
  base_model: z.string(),
  /** Null: the base without an adapter. */
  checkpoint_id: uuid.nullable(),
  storage_key: z.string().nullable(),
});

export const generateItem = z.object({
  key: z.string(),
  messages: z.array(chatMessage).min(1),
  n: z.number().int().min(1).max(32).default(1),
  seed: z.number().int().optional(),
});

/** The one egress to language models, for evaluation, judges, pair generation. Nothing is recorded. */
export const generate = defineRoute({
  service: 'responses',
  operationId: 'internal_generate',
  method: 'POST',
  path: '/internal/responses/generate',
  summary: 'Samples answers from the base or one checkpoint.',
  scope: 'service',
  body: z.object({
    target: generateTarget,
    items: z.array(generateItem).min(1).max(MAX_GENERATE_ITEMS),
    temperature: z.number().min(0).max(2).default(1),
    top_p: z.number().min(0).max(1).default(1),
    max_tokens: z.number().int().min(1).max(4_096).default(64),
    purpose: z.enum(['evaluation', 'judge', 'pairs']),
    /** Holds the answers to a JSON schema, as in chat completions. */
    response_format: responseFormat.optional(),
  }),
  response: z.object({
    items: z.array(
      z.object({
        key: z.string(),
        choices: z.array(z.object({ text, finish_reason: z.string(), completion_tokens: z.number().int() })),
      }),
    ),
  }),
});

export const getResponseRecord = defineRoute({
  service: 'responses',
  operationId: 'internal_get_response',
  method: 'GET',
  path: '/internal/responses/records/{id}',
  summary: 'One response as its event tells it; for readers that have not seen the event yet.',
  scope: 'service',
  params: idParams,
  response: responseRecord,
});

export const findResponseByCompletion = defineRoute({
  service: 'responses',
  operationId: 'internal_find_response_by_completion',
  method: 'GET',
  path: '/internal/responses/by-completion',
  summary: 'The response behind a chat completion id and choice.',
  scope: 'service',
  query: z.object({ completion_id: z.string().max(200), choice: z.coerce.number().int().min(0).default(0) }),
  response: responseRecord,
});

export const snapshotResponses = defineRoute({
  service: 'responses',
  operationId: 'internal_snapshot_responses',
  method: 'GET',
  path: '/internal/responses/snapshot',
  summary: 'All responses of the project in id order; read models rebuild from it and the stream tail.',
  scope: 'service',
  query: pageQuery,
  response: page(responseRecord),
});

export const serveModelReady = defineRoute({
  service: 'responses',
  operationId: 'internal_preload_model',
  method: 'POST',
  path: '/internal/responses/preload',
  summary: 'Loads an adapter into the serve process before traffic is switched to it.',
  scope: 'service',
  body: z.object({ target: generateTarget }),
  response: z.object({ ready: z.literal(true), model: z.string() }),
});
