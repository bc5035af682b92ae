import { z } from 'zod';
import { uuid } from '../common.ts';
import { defineEvent } from '../event.ts';

export const DATASET_KINDS = ['sft', 'dpo', 'kto', 'reward', 'prompts', 'predictions'] as const;
export const datasetKind = z.enum(DATASET_KINDS);
export const SPLITS = ['train', 'validation', 'test'] as const;
export const split = z.enum(SPLITS);
export const splitSizes = z.object({
  train: z.number().int(),
  validation: z.number().int(),
  test: z.number().int(),
});

/** `auto` asks no model; the others have one write examples from each chunk. */
export const DOCUMENT_MODES = ['auto', 'qa', 'instruction', 'conversation'] as const;
export const MAX_DOCUMENT_IDS = 1_000;

/** Examples from documents instead of feedback. */
export const documentSource = z.object({
  /** Left out: every document of the project, or of the session. */
  document_ids: z.array(uuid).min(1).max(MAX_DOCUMENT_IDS).optional(),
  session_id: uuid.optional(),
  mode: z.enum(DOCUMENT_MODES).default('auto'),
  /** Chunks of less quality are left out. */
  min_quality: z.number().min(0).max(1).default(0.5),
  /** Chunks that repeat an earlier one are left out unless asked for. */
  include_duplicates: z.boolean().default(false),
  pairs_per_chunk: z.number().int().min(1).max(8).default(3),
  /** Left out: one that names the document. Empty: none. */
  system_prompt: z.string().max(4_000).optional(),
  /** Who writes the examples: a base or an upstream's model; left out: the project's model. */
  model: z.string().min(1).max(200).optional(),
});
export type DocumentSource = z.output<typeof documentSource>;

/** What a training request asks the dataset to be made of. Defaults are the project's data so far. */
export const datasetSpec = z.object({
  kind: datasetKind.default('dpo'),
  /** An existing version instead of a new one. */
  dataset_version_id: uuid.optional(),
  slot: z.string().default('default'),
  since: z.iso.datetime({ offset: true }).optional(),
  include_synthetic: z.boolean().default(false),
  min_margin: z.number().min(0).max(2).default(0),
  /** Pairs (sft: answers) that one prompt gives at most. */
  max_pairs_per_prompt: z.number().int().min(1).max(64).default(4),
  min_examples: z.number().int().min(1).default(10),
  /** sft: answers whose rewards average at least this. */
  min_score: z.number().min(-1).max(1).default(0.5),
  /** sft: examples from documents instead of feedback. */
  documents: documentSource.optional(),
});
export type DatasetSpec = z.output<typeof datasetSpec>;

export const datasetReady = defineEvent({
  type: 'dataset.ready',
  version: 1,
  owner: 'datasets',
  summary: 'A version was frozen for a training request.',
  schema: z.object({
    request_id: uuid,
    dataset_id: uuid,
    dataset_version_id: uuid,
    kind: datasetKind,
    content_hash: z.string(),
    examples: z.number().int(),
    splits: splitSizes,
    /** Groups (prompts) in the test split. */
    test_groups: z.number().int(),
    test_fingerprint: z.string(),
  }),
});

export const datasetInsufficient = defineEvent({
  type: 'dataset.insufficient',
  version: 1,
  owner: 'datasets',
  summary: 'There is too little data for the request; nothing was frozen.',
  schema: z.object({ request_id: uuid, examples: z.number().int(), needed: z.number().int(), reason: z.string() }),
});

export const datasetFailed = defineEvent({
  type: 'dataset.failed',
  version: 1,
  owner: 'datasets',
  summary: 'The dataset could not be built.',
  schema: z.object({ request_id: uuid, code: z.string(), reason: z.string() }),
});
