import { z } from 'zod';
import { metadata, text, timestamp, uuid } from '../common.ts';
import { defineEvent } from '../event.ts';

/** Chat messages as the OpenAI API writes them; content parts allowed. */
export const chatMessage = z.object({
  role: z.enum(['system', 'developer', 'user', 'assistant', 'tool']),
  content: z.union([text, z.array(z.record(z.string(), z.json())), z.null()]).optional(),
  name: z.string().max(200).optional(),
  tool_calls: z.array(z.record(z.string(), z.json())).optional(),
  tool_call_id: z.string().max(200).optional(),
  weight: z.number().min(0).max(1).optional(),
});
export type ChatMessage = z.output<typeof chatMessage>;

/** A response as others project it. `version` grows with each change; readers keep the highest. */
export const responseRecord = z.object({
  response_id: uuid,
  version: z.number().int().min(1),
  user_id: z.string(),
  prompt_id: uuid.nullable(),
  prompt: text,
  messages: z.array(chatMessage).nullable(),
  response_text: text,
  model_id: z.string(),
  checkpoint_id: uuid.nullable(),
  slot: z.string(),
  completion_id: z.string().nullable(),
  choice: z.number().int().nullable(),
  image_id: uuid.nullable(),
  /** Facts that the prompt was written from; judges and reports read them. */
  facts: z.record(z.string(), z.string()).nullable(),
  /** Permanent split group: near-duplicate cluster of the image or document, else a hash of the prompt. */
  group_key: z.string(),
  category: z.string().nullable(),
  brand: z.string().nullable(),
  task: z.string().nullable(),
  session_id: uuid.nullable(),
  /** `production`, `candidate` (made for feedback), `evaluation` (never trained on), `imported`. */
  purpose: z.enum(['production', 'candidate', 'evaluation', 'imported']),
  metadata,
  created_at: timestamp,
});
export type ResponseRecord = z.output<typeof responseRecord>;

export const responseCreated = defineEvent({
  type: 'response.created',
  version: 1,
  owner: 'responses',
  summary: 'A model answered, or an answer was recorded.',
  schema: responseRecord,
});

export const responseUpdated = defineEvent({
  type: 'response.updated',
  version: 1,
  owner: 'responses',
  summary: 'A recorded answer changed; carries the whole new state.',
  schema: responseRecord,
});

export const responseDeleted = defineEvent({
  type: 'response.deleted',
  version: 1,
  owner: 'responses',
  summary: 'A recorded answer is gone.',
  schema: z.object({ response_id: uuid, version: z.number().int(), reason: z.enum(['deleted', 'erased']) }),
});

export const usageRecorded = defineEvent({
  type: 'usage.recorded',
  version: 1,
  owner: 'responses',
  summary: 'Tokens were spent on a generation.',
  schema: z.object({
    generation_id: uuid,
    model: z.string(),
    provider: z.string(),
    prompt_tokens: z.number().int(),
    completion_tokens: z.number().int(),
    cost_usd: z.number(),
    latency_ms: z.number(),
  }),
});
