import { z } from 'zod';
import { idParams, page, pageQuery, slot, timestamp, uuid } from '../common.ts';
import { provenance } from '../ingest/events.ts';
import { defineRoute } from '../route.ts';
import { datasetKind, datasetSpec, split } from './events.ts';
import { datasetVersion, exampleRow } from './internal.ts';

/** Something a validation found: how many examples it concerns and the first of them. */
export const validationFinding = z.object({
  code: z.string(),
  message: z.string(),
  count: z.number().int(),
  /** At most ten ids of examples, preferences or answers; for uploaded files, line numbers. */
  examples: z.array(z.string()),
});
export type ValidationFinding = z.output<typeof validationFinding>;

export const datasetValidation = z.object({
  errors: z.array(validationFinding),
  warnings: z.array(validationFinding),
  stats: z.object({
    unique_prompts: z.number().int(),
    /** Characters of an example's texts. */
    chars_mean: z.number(),
    chars_p95: z.number(),
    /** Examples whose context is more than one user message: those have no plain text form. */
    multi_message: z.number().int(),
  }),
});
export type DatasetValidation = z.output<typeof datasetValidation>;

export const publicDatasetVersion = datasetVersion.extend({ validation: datasetValidation, created_by: z.string() });

export const datasetBuild = z.object({
  id: uuid,
  status: z.enum(['pending', 'ready', 'insufficient', 'failed']),
  code: z.string().nullable(),
  reason: z.string().nullable(),
  dataset_version_id: uuid.nullable(),
  created_at: timestamp,
  settled_at: timestamp.nullable(),
});

export const dataset = z.object({
  id: uuid,
  name: z.string(),
  kind: datasetKind,
  slot: z.string(),
  source: z.enum(['training', 'manual', 'file']),
  latest_version_id: uuid.nullable(),
  versions: z.number().int(),
  /** How the last version that was asked for came out. */
  last_build: datasetBuild.nullable(),
  created_by: z.string(),
  created_at: timestamp,
});

export const listDatasets = defineRoute({
  service: 'datasets',
  operationId: 'list_datasets',
  method: 'GET',
  path: '/api/v1/datasets',
  summary: 'Datasets, newest first.',
  scope: 'read',
  query: pageQuery.extend({ kind: datasetKind.optional() }),
  response: page(dataset),
});

export const createDataset = defineRoute({
  service: 'datasets',
  operationId: 'create_dataset',
  method: 'POST',
  path: '/api/v1/datasets',
  summary:
    'Makes a dataset from the feedback so far, or from documents (spec.documents); its first version is frozen in the background (see last_build).',
  scope: 'write',
  status: 201,
  body: z.object({
    name: z.string().min(1).max(200),
    kind: z.enum(['sft', 'dpo']).default('dpo'),
    slot,
    spec: datasetSpec.omit({ kind: true, slot: true, dataset_version_id: true }).prefault({}),
  }),
  response: dataset,
});

export const getDataset = defineRoute({
  service: 'datasets',
  operationId: 'get_dataset',
  method: 'GET',
  path: '/api/v1/datasets/{id}',
  summary: 'One dataset.',
  scope: 'read',
  params: idParams,
  response: dataset,
});

export const createDatasetVersion = defineRoute({
  service: 'datasets',
  operationId: 'create_dataset_version',
  method: 'POST',
  path: '/api/v1/datasets/{id}/versions',
  summary: 'Freezes one more version of a dataset from what there is so far, in the background.',
  scope: 'write',
  status: 202,
  params: idParams,
  body: z.object({ spec: datasetSpec.omit({ kind: true, slot: true, dataset_version_id: true }).prefault({}) }),
  response: datasetBuild,
});

export const listDatasetVersions = defineRoute({
  service: 'datasets',
  operationId: 'list_dataset_versions',
  method: 'GET',
  path: '/api/v1/datasets/{id}/versions',
  summary: 'Versions of a dataset, newest first.',
  scope: 'read',
  params: idParams,
  query: pageQuery,
  response: page(publicDatasetVersion),
});

export const getDatasetVersion = defineRoute({
  service: 'datasets',
  operationId: 'get_dataset_version',
  method: 'GET',
  path: '/api/v1/dataset-versions/{id}',
  summary: 'A frozen version: sizes, hash, query, validation.',
  scope: 'read',
  params: idParams,
  response: publicDatasetVersion,
});

export const listDatasetExamples = defineRoute({
  service: 'datasets',
  operationId: 'list_dataset_examples',
  method: 'GET',
  path: '/api/v1/dataset-versions/{id}/examples',
  summary: 'Examples of a version in their fixed order.',
  scope: 'read',
  params: idParams,
  query: pageQuery.extend({ split: split.optional() }),
  response: page(exampleRow),
});

export const getExampleLineage = defineRoute({
  service: 'datasets',
  operationId: 'get_example_lineage',
  method: 'GET',
  path: '/api/v1/dataset-versions/{id}/examples/{example_id}/lineage',
  summary:
    'Where one example comes from: feedback, answers, picture, or document and chunks; and the query that chose it.',
  scope: 'read',
  params: z.object({ id: uuid, example_id: uuid }),
  response: z.object({
    example_id: uuid,
    dataset_id: uuid,
    dataset_version_id: uuid,
    content_hash: z.string(),
    split,
    group_key: z.string(),
    feedback_ids: z.array(uuid),
    response_ids: z.array(uuid),
    image_id: uuid.nullable(),
    /** Of examples from documents: the document and the chunks that the example was made from. */
    document: z
      .object({
        id: uuid,
        name: z.string(),
        title: z.string().nullable(),
        provenance,
        chunks: z.array(
          z.object({ id: uuid, ordinal: z.number().int().nullable(), heading_path: z.array(z.string()) }),
        ),
      })
      .nullable()
      .optional(),
    query: z.json(),
  }),
});

/**
 * `trl`: conversational `{prompt, chosen, rejected}` or `{prompt, completion}`; `trl-plain`: the same as texts;
 * `openai`: chat lines for sft, preference lines for dpo.
 */
export const EXPORT_FORMATS = ['trl', 'trl-plain', 'openai'] as const;
export type ExportFormat = (typeof EXPORT_FORMATS)[number];

export const exportDatasetVersion = defineRoute({
  service: 'datasets',
  operationId: 'export_dataset_version',
  method: 'GET',
  path: '/api/v1/dataset-versions/{id}/export',
  summary: 'A version as JSONL for other trainers, streamed.',
  scope: 'read',
  params: idParams,
  query: z.object({ format: z.enum(EXPORT_FORMATS).default('trl'), split: split.default('train') }),
  response: z.string(),
  produces: 'application/x-ndjson',
});
