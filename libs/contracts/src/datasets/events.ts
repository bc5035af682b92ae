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
