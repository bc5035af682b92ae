import { z } from 'zod';
import { chatMessage } from './events.ts';

/**
 * Chat completions as OpenAI's API writes them. Objects stay open: what an upstream knows and we do not is passed on to
 * it, and refused by name where the local engine answers.
 */
export const MAX_MESSAGES = 2_000;
export const MAX_CHOICES = 32;
const MAX_STOPS = 4;
const MAX_TOP_LOGPROBS = 20;
const MAX_METADATA_PAIRS = 16;

/** What the local engine holds answers to; an upstream may know more types. */
export const responseFormat = z.looseObject({
  type: z.string().min(1).max(100),
  json_schema: z
    .looseObject({ name: z.string().max(200).nullish(), schema: z.record(z.string(), z.json()).nullish() })
    .nullish(),
});

const openMessage = z.looseObject(chatMessage.shape);

export const chatCompletionRequest = z.looseObject({
  model: z.string().min(1).max(400),
  messages: z.array(openMessage).min(1).max(MAX_MESSAGES),
  n: z.number().int().min(1).max(MAX_CHOICES).nullish(),
  seed: z.number().int().nullish(),
  stop: z.union([z.string().min(1).max(200), z.array(z.string().min(1).max(200)).max(MAX_STOPS)]).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  max_tokens: z.number().int().min(1).nullish(),
  max_completion_tokens: z.number().int().min(1).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.number().int().min(0).max(MAX_TOP_LOGPROBS).nullish(),
  user: z.string().max(200).nullish(),
  metadata: z
    .record(z.string().max(64), z.string().max(512))
    .refine((pairs) => Object.keys(pairs).length <= MAX_METADATA_PAIRS, `must have at most ${MAX_METADATA_PAIRS} pairs`)
    .nullish(),
  store: z.boolean().nullish(),
  response_format: responseFormat.nullish(),
});
export type ChatCompletionRequest = z.output<typeof chatCompletionRequest>;

export const completionUsage = z.looseObject({
  prompt_tokens: z.number().int(),
  completion_tokens: z.number().int(),
  total_tokens: z.number().int(),
});
export type CompletionUsage = z.output<typeof completionUsage>;

export const chatCompletion = z.looseObject({
  id: z.string(),
  object: z.literal('chat.completion'),
  created: z.number().int(),
  model: z.string(),
  choices: z.array(
    z.looseObject({
      index: z.number().int(),
      message: z.looseObject({ role: z.string(), content: z.string().nullish() }),
      finish_reason: z.string().nullish(),
      logprobs: z.json().nullish(),
    }),
  ),
  usage: completionUsage.nullish(),
});
export type ChatCompletion = z.output<typeof chatCompletion>;

export const chatCompletionChunk = z.looseObject({
  id: z.string(),
  object: z.string(),
  created: z.number().int(),
  model: z.string(),
  choices: z
    .array(
      z.looseObject({
        index: z.number().int(),
        delta: z.looseObject({ role: z.string().nullish(), content: z.string().nullish() }),
        finish_reason: z.string().nullish(),
        logprobs: z.json().nullish(),
      }),
    )
    .default([]),
  usage: completionUsage.nullish(),
});
export type ChatCompletionChunk = z.output<typeof chatCompletionChunk>;

export const modelObject = z.looseObject({
  id: z.string(),
  object: z.literal('model'),
  created: z.number().int(),
  owned_by: z.string(),
});
export type ModelObject = z.output<typeof modelObject>;
export const modelList = z.object({ object: z.literal('list'), data: z.array(modelObject) });
export const modelDeleted = z.object({ id: z.string(), object: z.literal('model'), deleted: z.literal(true) });
