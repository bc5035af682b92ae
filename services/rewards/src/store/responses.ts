import type { ResponseRecord } from '@tuneloop/contracts/responses/events';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { ProjectSettings } from '@tuneloop/runtime/projects';
import { promptKey } from '../domain/promptKey.ts';

/** What feedback needs to know of an answer. */
export interface KnownResponse {
  readonly id: string;
  readonly prompt_key: string;
  readonly brand: string | null;
  readonly task: string | null;
  readonly deleted: boolean;
}

export interface LockedResponses {
  readonly responses: readonly KnownResponse[];
  /** Null when the projection has not seen the project. */
  readonly settings: ProjectSettings | null;
}

/**
 * Reads answers and holds them until the transaction ends: one that is being deleted is waited for. With `andPrompts`
 * the transaction also becomes the only one that changes ratings and pairs of these prompts. Locks are taken rows
 * first, then prompts, both in order, everywhere: so no two transactions wait for each other.
 */
export async function lockResponses(tx: Tx, ids: readonly string[], andPrompts: boolean): Promise<LockedResponses> {
  const rows = await tx.query<KnownResponse & { settings: ProjectSettings | null }>(
    `WITH found AS MATERIALIZED (
       SELECT id, prompt_key, brand, task, deleted_at IS NOT NULL AS deleted FROM responses
       WHERE id = ANY(ARRAY(SELECT unnest($1::uuid[]))) ORDER BY id FOR SHARE),
     locked AS MATERIALIZED (
       SELECT pg_advisory_xact_lock(key) FROM (
         SELECT DISTINCT hashtextextended(prompt_key::text, 0) AS key FROM found WHERE $2 ORDER BY key) keys)
     SELECT found.*, projects.settings FROM found
     LEFT JOIN projects ON true CROSS JOIN (SELECT count(*) FROM locked) AS taken`,
    [ids, andPrompts],
  );
  return { responses: rows, settings: rows[0]?.settings ?? null };
}

/** Makes the transaction the only one that changes ratings and pairs of these prompts. */
export async function lockPrompts(tx: Tx, promptKeys: readonly string[]): Promise<void> {
  await tx.query(
    `SELECT pg_advisory_xact_lock(key) FROM (
       SELECT DISTINCT hashtextextended(k::text, 0) AS key FROM unnest($1::uuid[]) k ORDER BY key) keys`,
    [promptKeys],
  );
}

export interface CompletionRef {
  readonly completion_id: string;
  readonly choice: number;
}

/** Ids of the responses behind completions. A completion of one answer may have been recorded without a choice. */
export async function findResponsesByCompletion(
  tx: Tx,
  refs: readonly CompletionRef[],
): Promise<(CompletionRef & { id: string })[]> {
  return tx.query(
    `SELECT ref.completion_id, ref.choice, r.id
     FROM (SELECT DISTINCT * FROM jsonb_to_recordset($1::jsonb) AS x(completion_id text, choice int)) ref
     JOIN responses r ON r.completion_id = ref.completion_id AND coalesce(r.choice, 0) = ref.choice
     WHERE r.completion_id = ANY($2::text[]) AND r.completion_id IS NOT NULL`,
    [JSON.stringify(refs), refs.map((ref) => ref.completion_id)],
  );
}

export interface ProjectedResponse {
  readonly id: string;
  readonly prompt_key: string;
  /** Set when the answer was known under another prompt before. */
  readonly previous_prompt_key: string | null;
}

/** Stores records that are newer than what is known; those deleted stay deleted. Returns what was stored. */
export async function upsertResponses(tx: Tx, records: readonly ResponseRecord[]): Promise<ProjectedResponse[]> {
  const rows = records.map((record) => ({
    id: record.response_id,
    version: record.version,
    prompt_key: promptKey(record),
    user_id: record.user_id,
    prompt: record.prompt,
    response_text: record.response_text,
    model_id: record.model_id,
    completion_id: record.completion_id,
    choice: record.choice,
    brand: record.brand,
    task: record.task,
    session_id: record.session_id,
    purpose: record.purpose,
    created_at: record.created_at,
  }));
  return tx.query<ProjectedResponse>(
    `WITH incoming AS MATERIALIZED (
       SELECT * FROM jsonb_to_recordset($2::jsonb) AS x(id uuid, version int, prompt_key uuid, user_id text, prompt text,
         response_text text, model_id text, completion_id text, choice int, brand text, task text, session_id uuid,
         purpose text, created_at timestamptz)),
     before AS MATERIALIZED (
       SELECT r.id, r.prompt_key FROM responses r JOIN incoming USING (id)
       WHERE r.id = ANY($3::uuid[]) ORDER BY r.id FOR UPDATE OF r),
     stored AS (
       INSERT INTO responses (project_id, id, version, prompt_key, user_id, prompt, response_text, model_id,
         completion_id, choice, brand, task, session_id, purpose, created_at)
       SELECT $1, id, version, prompt_key, user_id, prompt, response_text, model_id, completion_id, choice, brand, task,
         session_id, purpose, created_at FROM incoming WHERE (SELECT count(*) FROM before) >= 0 ORDER BY id
       ON CONFLICT (project_id, id) DO UPDATE SET version = EXCLUDED.version, prompt_key = EXCLUDED.prompt_key,
         user_id = EXCLUDED.user_id, prompt = EXCLUDED.prompt, response_text = EXCLUDED.response_text,
         model_id = EXCLUDED.model_id, completion_id = EXCLUDED.completion_id, choice = EXCLUDED.choice,
         brand = EXCLUDED.brand, task = EXCLUDED.task, session_id = EXCLUDED.session_id, purpose = EXCLUDED.purpose,
         created_at = EXCLUDED.created_at
       WHERE responses.version < EXCLUDED.version AND responses.deleted_at IS NULL
       RETURNING id, prompt_key)
     SELECT stored.id, stored.prompt_key, nullif(before.prompt_key, stored.prompt_key) AS previous_prompt_key
     FROM stored LEFT JOIN before USING (id)`,
    [tx.projectId, JSON.stringify(rows), rows.map((row) => row.id)],
  );
}

/** Keeps a tombstone in the place of a response, known or not. Returns its prompt, or undefined if it was gone already. */
export async function deleteResponse(tx: Tx, id: string, version: number): Promise<{ prompt_key: string } | undefined> {
  return tx.one<{ prompt_key: string }>(
    `INSERT INTO responses (project_id, id, version, prompt_key, user_id, prompt, response_text, model_id, purpose,
       created_at, deleted_at)
     VALUES ($1, $2, $3, $2, '', '', '', '', 'production', now(), now())
     ON CONFLICT (project_id, id) DO UPDATE SET version = greatest(responses.version, EXCLUDED.version), user_id = '',
       prompt = '', response_text = '', completion_id = NULL, choice = NULL, deleted_at = now()
     WHERE responses.deleted_at IS NULL
     RETURNING prompt_key`,
    [tx.projectId, id, version],
  );
}
