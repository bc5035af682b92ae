import type { Tx } from '@tuneloop/runtime/pg/database';
import type { z } from 'zod';
import type { DatasetValidation } from '@tuneloop/contracts/datasets/http';
import type { Split } from '../domain/splits.ts';

export interface VersionRow {
  id: string;
  dataset_id: string;
  number: number;
  kind: 'sft' | 'dpo';
  content_hash: string;
  train_examples: number;
  validation_examples: number;
  test_examples: number;
  test_groups: number;
  test_fingerprint: string;
  query: z.core.util.JSONType;
  validation: DatasetValidation;
  leaked_groups: number;
  open_quarantine: number;
  erased_examples: number;
  created_by: string;
  created_at: Date;
}

/** What can be counted of the rows of a version in the making. */
export interface RowCounts {
  train_examples: number;
  validation_examples: number;
  test_examples: number;
  unique_prompts: number;
  chars_mean: number;
  chars_p95: number;
  multi_message: number;
  duplicates: number;
  duplicate_ids: string[];
}

/** Says which version this transaction makes: the database takes rows for no other, and for none that is there. */
export async function beginVersion(tx: Tx, versionId: string): Promise<void> {
  await tx.query('SELECT begin_version($1)', [versionId]);
}

export async function countRows(tx: Tx, versionId: string): Promise<RowCounts> {
  const row = await tx.one<RowCounts>(
    `WITH texts AS (
       SELECT split, id, example->'messages' AS messages, (example->'messages')::text AS prompt,
         example->>'chosen' AS chosen, coalesce(example->>'rejected', '') AS rejected
       FROM version_examples WHERE version_id = $1
     ), rows AS (
       SELECT split, id, length(prompt) + length(chosen) + length(rejected) AS chars, hashtextextended(prompt, 0) AS prompt,
         jsonb_array_length(messages) > 1 OR jsonb_typeof(messages->0->'content') IS DISTINCT FROM 'string' AS multi_message,
         hash_array_extended(ARRAY[hashtextextended(prompt, 0), hashtextextended(chosen, 0), hashtextextended(rejected, 0)], 0)
           AS texts
       FROM texts
     ), copies AS (
       SELECT *, row_number() OVER (PARTITION BY texts ORDER BY id) AS copy FROM rows
     )
     SELECT count(*) FILTER (WHERE split = 'train')::int AS train_examples,
       count(*) FILTER (WHERE split = 'validation')::int AS validation_examples,
       count(*) FILTER (WHERE split = 'test')::int AS test_examples,
       count(DISTINCT prompt)::int AS unique_prompts,
       coalesce(avg(chars), 0)::float8 AS chars_mean,
       coalesce(percentile_disc(0.95) WITHIN GROUP (ORDER BY chars), 0)::float8 AS chars_p95,
       count(*) FILTER (WHERE multi_message)::int AS multi_message,
       count(*) FILTER (WHERE copy > 1)::int AS duplicates,
       coalesce((array_agg(id::text ORDER BY id) FILTER (WHERE copy > 1))[1:10], '{}') AS duplicate_ids
     FROM copies`,
    [versionId],
  );
  return row!;
}

/** Groups, and prompts, that lie in more than one split. */
export async function findLeaks(tx: Tx, versionId: string): Promise<{ count: number; groups: string[] }> {
  const row = await tx.one<{ count: number; groups: string[] }>(
    `WITH leaks AS (
       SELECT group_key AS key FROM version_examples WHERE version_id = $1
       GROUP BY group_key HAVING count(DISTINCT split) > 1
       UNION
       SELECT min(group_key) FROM version_examples WHERE version_id = $1 AND prompt_link IS NOT NULL
       GROUP BY prompt_link HAVING count(DISTINCT split) > 1)
     SELECT count(*)::int AS count, coalesce((array_agg(key ORDER BY key))[1:10], '{}') AS groups FROM leaks`,
    [versionId],
  );
  return row!;
}

/** Fingerprints of what is written: the rows in reading order; the test groups with their prompts. */
export async function hashRows(
  tx: Tx,
  versionId: string,
): Promise<{ content_hash: string; test_groups: number; test_fingerprint: string }> {
  const row = await tx.one<{ content_hash: string; test_groups: number; test_fingerprint: string }>(
    `SELECT
       (SELECT encode(sha256(coalesce(string_agg(line_hash, ''::bytea
          ORDER BY array_position(ARRAY['train', 'validation', 'test'], split), ordinal), ''::bytea)), 'hex')
        FROM version_examples WHERE version_id = $1) AS content_hash,
       count(*)::int AS test_groups,
       encode(sha256(coalesce(string_agg(sha256(convert_to(prompt::text, 'UTF8')), ''::bytea ORDER BY ordinal), ''::bytea)),
         'hex') AS test_fingerprint
     FROM version_test_prompts WHERE version_id = $1`,
    [versionId],
  );
  return row!;
}

/** Numbers the version within its dataset and closes it: from here on the database refuses rows for it. */
export async function insertVersion(
  tx: Tx,
  row: Omit<VersionRow, 'number' | 'created_at' | 'erased_examples' | 'query'> & { readonly query: object },
): Promise<VersionRow> {
  await tx.execute('SELECT 1 FROM datasets WHERE id = $1 FOR UPDATE', [row.dataset_id]);
  const stored = await tx.one<VersionRow>(
    `INSERT INTO dataset_versions (project_id, id, dataset_id, number, kind, content_hash, train_examples,
       validation_examples, test_examples, test_groups, test_fingerprint, query, validation, leaked_groups,
       open_quarantine, created_by)
     SELECT $1, $2, $3, coalesce(max(number), 0) + 1, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15
     FROM dataset_versions WHERE dataset_id = $3 RETURNING *, 0 AS erased_examples`,
    [
      tx.projectId,
      row.id,
      row.dataset_id,
      row.kind,
      row.content_hash,
      row.train_examples,
      row.validation_examples,
      row.test_examples,
      row.test_groups,
      row.test_fingerprint,
      JSON.stringify(row.query),
      JSON.stringify(row.validation),
      row.leaked_groups,
      row.open_quarantine,
      row.created_by,
    ],
  );
  return stored!;
}

const OVERVIEW = `SELECT v.*, coalesce((SELECT sum(e.examples) FROM version_erasures e WHERE e.version_id = v.id), 0)::int
  AS erased_examples FROM dataset_versions v`;

export async function findVersionById(tx: Tx, id: string): Promise<VersionRow | undefined> {
  return tx.one<VersionRow>(`${OVERVIEW} WHERE v.id = $1`, [id]);
}

/** Newest first. */
export async function listVersions(
  tx: Tx,
  datasetId: string,
  limit: number,
  belowNumber: number | null,
): Promise<VersionRow[]> {
  return tx.query<VersionRow>(
    `${OVERVIEW} WHERE v.dataset_id = $1 AND ($3::int IS NULL OR v.number < $3) ORDER BY v.number DESC LIMIT $2`,
    [datasetId, limit, belowNumber],
  );
}

export interface LineRow {
  ordinal: number;
  line: string;
}

/** The next lines of one split after an ordinal. */
export async function listLines(
  tx: Tx,
  at: { versionId: string; split: Split; after: number; limit: number },
): Promise<LineRow[]> {
  return tx.query<LineRow>(
    `SELECT ordinal, example::text AS line FROM version_examples
     WHERE version_id = $1 AND split = $2 AND ordinal > $3 ORDER BY ordinal LIMIT $4`,
    [at.versionId, at.split, at.after, at.limit],
  );
}

export async function listTestPromptLines(
  tx: Tx,
  at: { versionId: string; after: number; limit: number },
): Promise<LineRow[]> {
  return tx.query<LineRow>(
    `SELECT ordinal, prompt::text AS line FROM version_test_prompts
     WHERE version_id = $1 AND ordinal > $2 ORDER BY ordinal LIMIT $3`,
    [at.versionId, at.after, at.limit],
  );
}

export async function findExampleLine(tx: Tx, versionId: string, exampleId: string): Promise<string | undefined> {
  const row = await tx.one<{ line: string }>(
    'SELECT example::text AS line FROM version_examples WHERE version_id = $1 AND id = $2',
    [versionId, exampleId],
  );
  return row?.line;
}

export interface NewExample {
  readonly id: string;
  readonly split: Split;
  readonly ordinal: number;
  readonly group_key: string;
  readonly prompt_link: string | null;
  readonly example: object;
}

/** Rows of a version in the making. */
export async function insertExamples(tx: Tx, versionId: string, rows: readonly NewExample[]): Promise<void> {
  await tx.execute(
    `INSERT INTO version_examples (project_id, version_id, split, ordinal, id, group_key, prompt_link, example, line_hash)
     SELECT $1, $2, split, ordinal, id, group_key, prompt_link, example, sha256(convert_to(example::text, 'UTF8'))
     FROM jsonb_to_recordset($3::jsonb)
       AS r(id uuid, split text, ordinal int, group_key text, prompt_link text, example jsonb)`,
    [tx.projectId, versionId, JSON.stringify(rows)],
  );
}

export interface NewTestPrompt {
  readonly ordinal: number;
  readonly group_key: string;
  readonly prompt: object;
}

/** Evaluation prompts of a version in the making. */
export async function insertTestPrompts(tx: Tx, versionId: string, prompts: readonly NewTestPrompt[]): Promise<void> {
  await tx.execute(
    `INSERT INTO version_test_prompts (project_id, version_id, ordinal, group_key, prompt)
     SELECT $1, $2, ordinal, group_key, prompt FROM jsonb_to_recordset($3::jsonb)
       AS p(ordinal int, group_key text, prompt jsonb)`,
    [tx.projectId, versionId, JSON.stringify(prompts)],
  );
}
