import { z } from 'zod';
import { idParams, metadata, page, pageQuery, slot, text, timestamp, uuid } from '../common.ts';
import { defineRoute } from '../route.ts';
import { chatMessage, responseRecord } from './events.ts';
import { chatCompletion, chatCompletionRequest, modelDeleted, modelList, modelObject } from './openai.ts';

/** `/functions/v1/rft-responses`: the edge function that existing scrapers call (SPEC 3.1). */
const RFT_PATH = '/functions/v1/rft-responses';
const RFT_MAX_LIMIT = 1_000;

export const rftResponse = z.object({
  id: uuid,
  user_id: z.string(),
  prompt: z.string(),
  response_text: z.string(),
  model_id: z.string(),
  metadata,
  created_at: timestamp,
  updated_at: timestamp,
});

const shortText = z.string().max(200);
const required = text.min(1, 'must not be empty');

export const createRftResponse = defineRoute({
  service: 'responses',
  operationId: 'rft_responses_create',
  method: 'POST',
  path: RFT_PATH,
  summary: 'Records an answer that a model outside gave.',
  scope: 'write',
  body: z.object({
    user_id: shortText.min(1, 'must not be empty'),
    prompt: required,
    response_text: required,
    model_id: shortText.min(1).default('default'),
    metadata: metadata.default({}),
  }),
  response: z.object({ success: z.literal(true), data: rftResponse }),
  tag: 'functions',
});

export const listRftResponses = defineRoute({
  service: 'responses',
  operationId: 'rft_responses_list',
  method: 'GET',
  path: RFT_PATH,
  summary: 'Recorded answers, newest first; count is how many there are in all.',
  scope: 'read',
  query: z.object({
    user_id: shortText.optional(),
    model_id: shortText.optional(),
    limit: z.coerce.number().int().min(1).max(RFT_MAX_LIMIT).default(50),
    offset: z.coerce.number().int().min(0).max(10_000_000).default(0),
  }),
  response: z.object({ success: z.literal(true), data: z.array(rftResponse), count: z.number().int() }),
  tag: 'functions',
});

export const updateRftResponse = defineRoute({
  service: 'responses',
  operationId: 'rft_responses_update',
  method: 'PUT',
  path: RFT_PATH,
  summary: 'Changes a recorded answer; fields left out stay.',
  scope: 'write',
  query: z.object({ id: uuid }),
  body: z
    .object({
      user_id: shortText.min(1).optional(),
      prompt: required.optional(),
      response_text: required.optional(),
      model_id: shortText.min(1).optional(),
      metadata: metadata.optional(),
    })
    .refine((fields) => Object.values(fields).some((value) => value !== undefined), {
      message: 'give at least one of user_id, prompt, response_text, model_id, metadata',
    }),
  response: z.object({ success: z.literal(true), data: rftResponse }),
  tag: 'functions',
});

export const deleteRftResponse = defineRoute({
  service: 'responses',
  operationId: 'rft_responses_delete',
  method: 'DELETE',
  path: RFT_PATH,
  summary: 'Deletes a recorded answer.',
  scope: 'write',
  query: z.object({ id: uuid }),
  response: z.object({ success: z.literal(true), message: z.string() }),
  tag: 'functions',
});

/** One generation: what it cost and how long it took. */
export const trace = z.object({
  id: uuid,
  kind: z.enum(['chat', 'candidates', 'generate']),
  status: z.enum(['open', 'done', 'failed', 'cut_off']),
  provider: z.string(),
  model: z.string(),
  checkpoint_id: uuid.nullable(),
  slot: z.string().nullable(),
  prompt_id: uuid.nullable(),
  prompt_version: z.number().int().nullable(),
  prompt_tokens: z.number().int(),
  completion_tokens: z.number().int(),
  cost_usd: z.number(),
  latency_ms: z.number().nullable(),
  first_token_ms: z.number().nullable(),
  error: z.string().nullable(),
  started_at: timestamp,
  finished_at: timestamp.nullable(),
});

export const createResponse = defineRoute({
  service: 'responses',
  operationId: 'response_create',
  method: 'POST',
  path: '/api/v1/responses',
  summary: 'Records an answer.',
  scope: 'write',
  status: 201,
  body: z.object({
    user_id: shortText.min(1).optional(),
    prompt: required,
    messages: z.array(chatMessage).max(2_000).nullable().default(null),
    response_text: required,
    model_id: shortText.min(1).default('default'),
    prompt_id: uuid.nullable().default(null),
    image_id: uuid.nullable().default(null),
    session_id: uuid.nullable().default(null),
    slot,
    category: shortText.nullable().default(null),
    brand: shortText.nullable().default(null),
    task: shortText.nullable().default(null),
    facts: z.record(shortText, z.string().max(2_000)).nullable().default(null),
    purpose: z.enum(['production', 'imported']).default('imported'),
    metadata: metadata.default({}),
  }),
  response: responseRecord,
});

export const listResponses = defineRoute({
  service: 'responses',
  operationId: 'response_list',
  method: 'GET',
  path: '/api/v1/responses',
  summary: 'Recorded answers, newest first.',
  scope: 'read',
  query: pageQuery.extend({
    user_id: shortText.optional(),
    model_id: shortText.optional(),
    prompt_id: uuid.optional(),
    image_id: uuid.optional(),
    session_id: uuid.optional(),
    checkpoint_id: uuid.optional(),
    category: shortText.optional(),
    purpose: responseRecord.shape.purpose.optional(),
  }),
  response: page(responseRecord),
});

export const getResponse = defineRoute({
  service: 'responses',
  operationId: 'response_get',
  method: 'GET',
  path: '/api/v1/responses/{id}',
  summary: 'One answer with the trace of its generation.',
  scope: 'read',
  params: idParams,
  response: responseRecord.extend({ trace: trace.nullable() }),
});

export const deleteResponse = defineRoute({
  service: 'responses',
  operationId: 'response_delete',
  method: 'DELETE',
  path: '/api/v1/responses/{id}',
  summary: 'Deletes an answer; rewards and examples made from it go too.',
  scope: 'write',
  params: idParams,
  response: z.object({ id: uuid, deleted: z.literal(true) }),
});

/** Answers shown with one prompt; a prompt never has more candidates than this. */
export const MAX_PROMPT_RESPONSES = 64;

export const prompt = z.object({
  id: uuid,
  text,
  system: text.nullable(),
  image_id: uuid.nullable(),
  session_id: uuid.nullable(),
  category: z.string(),
  brand: z.string().nullable(),
  task: z.string().nullable(),
  facts: z.record(z.string(), z.string()).nullable(),
  group_key: z.string(),
  template_version: z.number().int().nullable(),
  status: z.enum(['pending', 'done', 'failed', 'skipped']),
  /** Why generation failed or was skipped. */
  reason: z.string().nullable(),
  candidates: z.number().int(),
  created_at: timestamp,
  responses: z.array(
    z.object({
      id: uuid,
      response_text: text,
      model_id: z.string(),
      checkpoint_id: uuid.nullable(),
      purpose: responseRecord.shape.purpose,
      created_at: timestamp,
    }),
  ),
});

export const listPrompts = defineRoute({
  service: 'responses',
  operationId: 'prompt_list',
  method: 'GET',
  path: '/api/v1/prompts',
  summary: 'Prompts, oldest first, each with its candidate answers.',
  scope: 'read',
  query: pageQuery.extend({
    session_id: uuid.optional(),
    image_id: uuid.optional(),
    category: shortText.optional(),
    status: z.enum(['pending', 'done', 'failed', 'skipped']).optional(),
  }),
  response: page(prompt),
});

export const getPrompt = defineRoute({
  service: 'responses',
  operationId: 'prompt_get',
  method: 'GET',
  path: '/api/v1/prompts/{id}',
  summary: 'One prompt with its candidate answers.',
  scope: 'read',
  params: idParams,
  response: prompt,
});

export const createPrompt = defineRoute({
  service: 'responses',
  operationId: 'prompt_create',
  method: 'POST',
  path: '/api/v1/prompts',
  summary: 'Asks for candidate answers to a prompt; they arrive in the background.',
  scope: 'write',
  status: 202,
  body: z.object({
    text: required,
    system: text.nullable().default(null),
    category: shortText.min(1).default('general'),
    brand: shortText.nullable().default(null),
    task: shortText.nullable().default(null),
    session_id: uuid.nullable().default(null),
    facts: z.record(shortText, z.string().max(2_000)).nullable().default(null),
    user_id: shortText.min(1).optional(),
    slot,
    /** The project's default unless given. */
    candidates: z.number().int().min(1).max(32).optional(),
  }),
  response: prompt,
});

export const promptTemplate = z.object({
  category: z.string(),
  version: z.number().int(),
  body: z.string(),
  system: z.string().nullable(),
  /** False until somebody has edited it. */
  edited: z.boolean(),
  updated_at: timestamp,
});
const category = z.string().regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'use lower-case letters, digits, - and _ (at most 63)');
const categoryParams = z.object({ category });

export const listPromptTemplates = defineRoute({
  service: 'responses',
  operationId: 'prompt_template_list',
  method: 'GET',
  path: '/api/v1/prompt-templates',
  summary: 'The templates that prompts are written from, by category.',
  scope: 'read',
  query: pageQuery,
  response: page(promptTemplate),
});

export const getPromptTemplate = defineRoute({
  service: 'responses',
  operationId: 'prompt_template_get',
  method: 'GET',
  path: '/api/v1/prompt-templates/{category}',
  summary: 'One template; its ETag goes into If-Match of a change.',
  scope: 'read',
  params: categoryParams,
  response: promptTemplate,
});

export const putPromptTemplate = defineRoute({
  service: 'responses',
  operationId: 'prompt_template_put',
  method: 'PUT',
  path: '/api/v1/prompt-templates/{category}',
  summary: 'Creates or changes a template; earlier versions are kept.',
  scope: 'write',
  params: categoryParams,
  body: z.object({
    body: z.string().min(1).max(20_000),
    system: z.string().max(20_000).nullable().default(null),
  }),
  response: promptTemplate,
});

export const deletePromptTemplate = defineRoute({
  service: 'responses',
  operationId: 'prompt_template_delete',
  method: 'DELETE',
  path: '/api/v1/prompt-templates/{category}',
  summary: 'Removes a template; a default category gets its default back as a new version.',
  scope: 'write',
  params: categoryParams,
  response: z.object({ category: z.string(), deleted: z.literal(true) }),
});

const aliasName = z.string().min(1).max(400);
export const aliasTarget = z.discriminatedUnion('kind', [
  /** What the slot's deployment serves. */
  z.object({ kind: z.literal('slot'), slot }),
  /** A local base, without an adapter. */
  z.object({ kind: z.literal('base'), model: z.string().min(1).max(200) }),
  z.object({ kind: z.literal('checkpoint'), checkpoint_id: uuid }),
  z.object({ kind: z.literal('upstream'), model: z.string().min(1).max(400) }),
]);
export const modelAlias = z.object({
  alias: z.string(),
  target: aliasTarget,
  created_at: timestamp,
  updated_at: timestamp,
});

export const listModelAliases = defineRoute({
  service: 'responses',
  operationId: 'model_alias_list',
  method: 'GET',
  path: '/api/v1/model-aliases',
  summary: 'Names that stand for other models.',
  scope: 'read',
  query: pageQuery,
  response: page(modelAlias),
});

export const putModelAlias = defineRoute({
  service: 'responses',
  operationId: 'model_alias_put',
  method: 'PUT',
  path: '/api/v1/model-aliases/{alias}',
  summary: 'Maps a model name, such as one of OpenAI, to a slot, a local base, a checkpoint or an upstream model.',
  scope: 'write',
  params: z.object({ alias: aliasName }),
  body: z.object({ target: aliasTarget }),
  response: modelAlias,
});

export const deleteModelAlias = defineRoute({
  service: 'responses',
  operationId: 'model_alias_delete',
  method: 'DELETE',
  path: '/api/v1/model-aliases/{alias}',
  summary: 'Removes an alias.',
  scope: 'write',
  params: z.object({ alias: aliasName }),
  response: z.object({ alias: z.string(), deleted: z.literal(true) }),
});

export const createChatCompletion = defineRoute({
  service: 'responses',
  operationId: 'chat_completion_create',
  method: 'POST',
  path: '/v1/chat/completions',
  summary: 'Answers a conversation, as OpenAI does; server-sent events with stream: true.',
  scope: 'write',
  body: chatCompletionRequest,
  response: chatCompletion,
  tag: 'openai',
});

const modelParams = z.object({ model: z.string().min(1).max(400) });

export const listModels = defineRoute({
  service: 'responses',
  operationId: 'model_list',
  method: 'GET',
  path: '/v1/models',
  summary: 'Models that can be asked: local bases, slots, aliases, fine-tuned and upstream models.',
  scope: 'read',
  response: modelList,
  tag: 'openai',
});

export const getModel = defineRoute({
  service: 'responses',
  operationId: 'model_get',
  method: 'GET',
  path: '/v1/models/{model}',
  summary: 'One model.',
  scope: 'read',
  params: modelParams,
  response: modelObject,
  tag: 'openai',
});

export const deleteModel = defineRoute({
  service: 'responses',
  operationId: 'model_delete',
  method: 'DELETE',
  path: '/v1/models/{model}',
  summary: 'Takes a fine-tuned model out of service.',
  scope: 'write',
  params: modelParams,
  response: modelDeleted,
  tag: 'openai',
});
