import { z } from 'zod';
import { idParams, text, timestamp, uuid } from '../common.ts';
import { chatMessage } from '../responses/events.ts';
import { defineRoute } from '../route.ts';
import { datasetKind, split, splitSizes } from './events.ts';

export const datasetVersion = z.object({
  id: uuid,
  dataset_id: uuid,
  number: z.number().int(),
  kind: datasetKind,
  content_hash: z.string(),
  examples: z.number().int(),
  splits: splitSizes,
  test_groups: z.number().int(),
  test_fingerprint: z.string(),
  query: z.json(),
  /** Groups that ended up in more than one split: always 0, checked when the version is frozen. */
  leaked_groups: z.number().int(),
  open_quarantine: z.number().int(),
  /** Lines of a training file that are not trained on: their prompts are in the test split. `lines` names the first. */
  held_back: z.object({ count: z.number().int(), lines: z.array(z.number().int()) }).optional(),
  /** Examples taken out since because what they were made from was erased; the hash is of the version as it was frozen. */
  erased_examples: z.number().int().optional(),
  created_at: timestamp,
});

/** One example of a frozen version, as the trainer reads it (one JSON object a line). */
export const exampleRow = z.object({
  id: uuid,
  split,
  group_key: z.string(),
  /** Context before the answer. */
  messages: z.array(chatMessage),
  /** sft: the answer. dpo: the preferred one. */
  chosen: text,
  /** dpo only. */
  rejected: text.nullable(),
  facts: z.record(z.string(), z.string()).nullable(),
  weight: z.number(),
  lineage: z.object({
    feedback_ids: z.array(uuid),
    response_ids: z.array(uuid),
    image_id: uuid.nullable(),
    /** Of examples from documents. */
    document_id: uuid.optional(),
    chunk_ids: z.array(uuid).optional(),
  }),
});
export type ExampleRow = z.output<typeof exampleRow>;

export const getDatasetVersionInternal = defineRoute({
  service: 'datasets',
  operationId: 'internal_get_dataset_version',
  method: 'GET',
  path: '/internal/datasets/versions/{id}',
  summary: 'A frozen version with its sizes and checks.',
  scope: 'service',
  params: idParams,
  response: datasetVersion,
});

export const streamDatasetRows = defineRoute({
  service: 'datasets',
  operationId: 'internal_stream_dataset_rows',
  method: 'GET',
  path: '/internal/datasets/versions/{id}/rows',
  summary: 'The examples of a version (one split, or all) as NDJSON of exampleRow, in a fixed order.',
  scope: 'service',
  params: idParams,
  query: z.object({ split: split.optional() }),
  response: z.string(),
  produces: 'application/x-ndjson',
});

/** One evaluation prompt per test group: what fresh samples are asked for. */
export const streamTestPrompts = defineRoute({
  service: 'datasets',
  operationId: 'internal_stream_test_prompts',
  method: 'GET',
  path: '/internal/datasets/versions/{id}/test-prompts',
  summary: 'The prompts of the test split, one a group, as NDJSON {group_key, messages, facts, image_id}.',
  scope: 'service',
  params: idParams,
  response: z.string(),
  produces: 'application/x-ndjson',
});
export const testPrompt = z.object({
  group_key: z.string(),
  messages: z.array(chatMessage),
  facts: z.record(z.string(), z.string()).nullable(),
  image_id: uuid.nullable(),
  document_id: uuid.optional(),
});
export type TestPrompt = z.output<typeof testPrompt>;

/** An uploaded fine-tuning file becomes a frozen version (validated; errors name the line). */
export const freezeFile = defineRoute({
  service: 'datasets',
  operationId: 'internal_freeze_file',
  method: 'POST',
  path: '/internal/datasets/freeze-file',
  summary: 'Makes a dataset version from an uploaded training file and an optional validation file.',
  scope: 'service',
  body: z.object({
    training_file: z.string(),
    validation_file: z.string().nullable().default(null),
    method: z.enum(['sft', 'dpo']),
  }),
  response: datasetVersion,
});

/** A version that held examples made from an erased item. */
export const touchedVersion = z.object({
  id: uuid,
  dataset_id: uuid,
  dataset_name: z.string(),
  number: z.number().int(),
  kind: datasetKind,
  content_hash: z.string(),
  /** Examples that were taken out of it. */
  examples: z.number().int(),
});

export const getErasureInternal = defineRoute({
  service: 'datasets',
  operationId: 'internal_get_dataset_erasure',
  method: 'GET',
  path: '/internal/datasets/erasures/{id}',
  summary: 'Which versions held examples of an erased item. handled: false until the item is gone here.',
  scope: 'service',
  params: idParams,
  response: z.object({ handled: z.boolean(), versions: z.array(touchedVersion) }),
});

/** What another service made for people to download through /v1/files: a job's step metrics. */
export const registerFile = defineRoute({
  service: 'datasets',
  operationId: 'internal_register_file',
  method: 'POST',
  path: '/internal/datasets/files',
  summary: 'Lists a blob of the project under /v1/files.',
  scope: 'service',
  body: z.object({
    filename: z.string().min(1).max(255),
    purpose: z.literal('fine-tune-results'),
    /** Key that the blob store gave; of this project. */
    storage_key: z.string().max(1_000),
    bytes: z.number().int().min(0),
  }),
  response: z.object({ id: z.string() }),
});
