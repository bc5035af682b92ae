import { z } from 'zod';
import { uuid } from '../common.ts';
import { defineRoute } from '../route.ts';
import { chatCompletion, chatCompletionRequest, modelList } from './openai.ts';

/**
 * What the serve process answers: OpenAI's protocol, for services only. Model names are a base (`nano`) or a base with an
 * immutable checkpoint (`nano:ckpt-<uuid>`).
 */

/** Header of a chat request: where the checkpoint's adapter lies, so that a process that lacks it can load it. */
export const ADAPTER_KEY_HEADER = 'tuneloop-adapter-key';

/**
 * The artefact of a checkpoint, stored as one JSON blob whose key is the checkpoint's `storage_key`. The files are blobs
 * of their own; a PEFT adapter has `adapter_config.json` and `adapter_model.safetensors`.
 */
export const adapterManifest = z.object({
  format: z.literal('peft'),
  base_model: z.string().min(1).max(200),
  files: z.record(
    z.string().max(200),
    z.object({
      key: z.string().max(1_000),
      sha256: z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 lower-case hex digits'),
      size: z.number().int().min(0),
    }),
  ),
});
export type AdapterManifest = z.output<typeof adapterManifest>;

export const serveChatCompletion = defineRoute({
  service: 'responses',
  operationId: 'serve_chat_completion',
  method: 'POST',
  path: '/v1/chat/completions',
  summary: 'Samples answers on this process.',
  scope: 'service',
  body: chatCompletionRequest,
  response: chatCompletion,
});

export const serveListModels = defineRoute({
  service: 'responses',
  operationId: 'serve_list_models',
  method: 'GET',
  path: '/v1/models',
  summary: 'Bases that this process holds, and the adapters of the project that are loaded.',
  scope: 'service',
  response: modelList,
});

export const serveLoadAdapter = defineRoute({
  service: 'responses',
  operationId: 'serve_load_adapter',
  method: 'POST',
  path: '/internal/serve/adapters',
  summary: 'Loads and verifies an adapter from the blob store, before traffic needs it.',
  scope: 'service',
  body: z.object({ base_model: z.string().min(1).max(200), checkpoint_id: uuid, storage_key: z.string().max(1_000) }),
  response: z.object({ model: z.string(), loaded: z.literal(true) }),
});
