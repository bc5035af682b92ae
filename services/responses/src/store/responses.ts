import type { ChatMessage, ResponseRecord } from '@tuneloop/contracts/responses/events';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { storableJson, storableText } from '../domain/storable.ts';

export interface ResponseRow {
  id: string;
  version: number;
  user_id: string;
  prompt_id: string | null;
  prompt: string;
  messages: ChatMessage[] | null;
  response_text: string;
  model_id: string;
  checkpoint_id: string | null;
  slot: string;
  completion_id: string | null;
  choice: number | null;
  image_id: string | null;
  facts: Record<string, string> | null;
  group_key: string;
  category: string | null;
  brand: string | null;
  task: string | null;
  session_id: string | null;
  purpose: ResponseRecord['purpose'];
  metadata: ResponseRecord['metadata'];
  trace_id: string | null;
  created_at: Date;
  updated_at: Date;
}

export type NewResponse = Omit<ResponseRow, 'version' | 'created_at' | 'updated_at'>;

const COLUMNS = `id, version, user_id, prompt_id, prompt, messages, response_text, model_id, checkpoint_id, slot,
  completion_id, choice, image_id, facts, group_key, category, brand, task, session_id, purpose, metadata, trace_id,
  created_at, updated_at`;

/** Inserts what is not there yet and returns only that: a repeated attempt gives no row twice. */
export async function insertResponses(tx: Tx, rows: readonly NewResponse[]): Promise<ResponseRow[]> {
  if (rows.length === 0) return [];
  return tx.query<ResponseRow>(
    `INSERT INTO responses (project_id, id, user_id, prompt_id, prompt, messages, response_text, model_id, checkpoint_id,
       slot, completion_id, choice, image_id, facts, group_key, category, brand, task, session_id, purpose, metadata,
       trace_id)
     SELECT $1, r.id, r.user_id, r.prompt_id, r.prompt, nullif(r.messages, 'null'), r.response_text, r.model_id,
       r.checkpoint_id, r.slot, r.completion_id, r.choice, r.image_id, nullif(r.facts, 'null'), r.group_key, r.category,
       r.brand, r.task, r.session_id, r.purpose, r.metadata, r.trace_id
     FROM jsonb_to_recordset($2::jsonb) AS r(id uuid, user_id text, prompt_id uuid, prompt text, messages jsonb,
       response_text text, model_id text, checkpoint_id uuid, slot text, completion_id text, choice int, image_id uuid,
       facts jsonb, group_key text, category text, brand text, task text, session_id uuid, purpose text, metadata jsonb,
       trace_id uuid)
     ON CONFLICT (id) DO NOTHING
     RETURNING ${COLUMNS}`,
    [tx.projectId, storableJson(rows)],
  );
}

export async function findResponseById(tx: Tx, id: string): Promise<ResponseRow | undefined> {
  return tx.one<ResponseRow>(`SELECT ${COLUMNS} FROM responses WHERE id = $1`, [id]);
}

export async function findResponseByCompletion(
  tx: Tx,
  completionId: string,
  choice: number,
): Promise<ResponseRow | undefined> {
  return tx.one<ResponseRow>(
    `SELECT ${COLUMNS} FROM responses WHERE project_id = $1 AND completion_id = $2 AND choice = $3`,
    [tx.projectId, completionId, choice],
  );
}

export interface RftFilter {
  readonly userId: string | undefined;
  readonly modelId: string | undefined;
}

const RFT_WHERE = `project_id = $1 AND ($2::text IS NULL OR user_id = $2) AND ($3::text IS NULL OR model_id = $3)`;

export async function listResponsesByOffset(
  tx: Tx,
  filter: RftFilter,
  limit: number,
  offset: number,
): Promise<ResponseRow[]> {
  return tx.query<ResponseRow>(
    `SELECT ${COLUMNS} FROM responses WHERE ${RFT_WHERE} ORDER BY created_at DESC, id DESC LIMIT $4 OFFSET $5`,
    [tx.projectId, filter.userId ?? null, filter.modelId ?? null, limit, offset],
  );
}

export async function countResponses(tx: Tx, filter: RftFilter): Promise<number> {
  const row = await tx.one<{ count: number }>(`SELECT count(*) AS count FROM responses WHERE ${RFT_WHERE}`, [
    tx.projectId,
    filter.userId ?? null,
    filter.modelId ?? null,
  ]);
  return row?.count ?? 0;
}

export interface ResponseFilter {
  readonly user_id?: string | undefined;
  readonly model_id?: string | undefined;
  readonly prompt_id?: string | undefined;
  readonly image_id?: string | undefined;
  readonly session_id?: string | undefined;
  readonly checkpoint_id?: string | undefined;
  readonly category?: string | undefined;
  readonly purpose?: string | undefined;
}

const FILTERS = [
  'user_id',
  'model_id',
  'prompt_id',
  'image_id',
  'session_id',
  'checkpoint_id',
  'category',
  'purpose',
] as const satisfies readonly (keyof ResponseFilter)[];

/** Newest first, after the position of an earlier page's last row. */
export async function listResponses(
  tx: Tx,
  filter: ResponseFilter,
  after: { readonly at: string; readonly id: string } | null,
  limit: number,
): Promise<ResponseRow[]> {
  const params: unknown[] = [tx.projectId, limit, after?.at ?? null, after?.id ?? null];
  const conditions = FILTERS.flatMap((column) => {
    const value = filter[column];
    if (value === undefined) return [];
    params.push(value);
    return [`AND ${column} = $${params.length}`];
  });
  return tx.query<ResponseRow>(
    `SELECT ${COLUMNS} FROM responses
     WHERE project_id = $1 AND ($3::timestamptz IS NULL OR (created_at, id) < ($3::timestamptz, $4::uuid))
       ${conditions.join(' ')}
     ORDER BY created_at DESC, id DESC LIMIT $2`,
    params,
  );
}

/** In id order, for snapshots. */
export async function listResponsesById(tx: Tx, afterId: string | undefined, limit: number): Promise<ResponseRow[]> {
  return tx.query<ResponseRow>(
    `SELECT ${COLUMNS} FROM responses WHERE project_id = $1 AND ($2::uuid IS NULL OR id > $2::uuid) ORDER BY id LIMIT $3`,
    [tx.projectId, afterId ?? null, limit],
  );
}

/** Answers to several prompts at once, in the order in which they were made. */
export async function listResponsesOfPrompts(
  tx: Tx,
  promptIds: readonly string[],
  perPrompt: number,
): Promise<ResponseRow[]> {
  if (promptIds.length === 0) return [];
  return tx.query<ResponseRow>(
    `SELECT r.* FROM unnest($1::uuid[]) AS wanted (prompt_id)
     CROSS JOIN LATERAL (
       SELECT ${COLUMNS} FROM responses WHERE responses.prompt_id = wanted.prompt_id
       ORDER BY choice NULLS LAST, created_at, id LIMIT $2) r`,
    [promptIds, perPrompt],
  );
}

export interface ResponseChange {
  readonly user_id?: string | undefined;
  readonly prompt?: string | undefined;
  readonly response_text?: string | undefined;
  readonly model_id?: string | undefined;
  readonly metadata?: ResponseRecord['metadata'] | undefined;
  readonly group_key?: string | undefined;
}

export async function updateResponse(tx: Tx, id: string, change: ResponseChange): Promise<ResponseRow | undefined> {
  return tx.one<ResponseRow>(
    `UPDATE responses SET version = version + 1, updated_at = now(),
       user_id = coalesce($2, user_id), prompt = coalesce($3, prompt), response_text = coalesce($4, response_text),
       model_id = coalesce($5, model_id), metadata = coalesce($6::jsonb, metadata), group_key = coalesce($7, group_key),
       messages = CASE WHEN $3::text IS NULL THEN messages END
     WHERE id = $1 RETURNING ${COLUMNS}`,
    [
      id,
      change.user_id ?? null,
      change.prompt === undefined ? null : storableText(change.prompt),
      change.response_text === undefined ? null : storableText(change.response_text),
      change.model_id ?? null,
      change.metadata === undefined ? null : storableJson(change.metadata),
      change.group_key ?? null,
    ],
  );
}

export interface DeletedResponse {
  readonly id: string;
  readonly version: number;
}

export async function deleteResponse(tx: Tx, id: string): Promise<DeletedResponse | undefined> {
  return tx.one<DeletedResponse>('DELETE FROM responses WHERE id = $1 RETURNING id, version', [id]);
}

/** At most `limit` answers made from a picture; called until none is left. */
export async function deleteResponsesOfImage(tx: Tx, imageId: string, limit: number): Promise<DeletedResponse[]> {
  return tx.query<DeletedResponse>(
    `DELETE FROM responses WHERE id IN (
       SELECT id FROM responses WHERE image_id = $1
         OR prompt_id IN (SELECT id FROM prompts WHERE image_id = $1) ORDER BY id LIMIT $2)
     RETURNING id, version`,
    [imageId, limit],
  );
}

/** Leaves a mark, so that a replay does not bring back what is gone. */
export async function insertTombstones(tx: Tx, kind: 'response' | 'image', ids: readonly string[]): Promise<void> {
  await tx.execute(
    `INSERT INTO tombstones (project_id, kind, id) SELECT $1, $2, unnest($3::uuid[]) ON CONFLICT DO NOTHING`,
    [tx.projectId, kind, ids],
  );
}

export async function isTombstoned(tx: Tx, kind: 'response' | 'image', id: string): Promise<boolean> {
  const row = await tx.one('SELECT 1 FROM tombstones WHERE project_id = $1 AND kind = $2 AND id = $3', [
    tx.projectId,
    kind,
    id,
  ]);
  return row !== undefined;
}
