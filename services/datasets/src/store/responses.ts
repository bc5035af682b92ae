import type { ChatMessage } from '@tuneloop/contracts/responses/events';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { storableJson, storableText } from '../domain/storable.ts';

/** Highest version there can be: of an answer that its owner does not have any more. */
export const GONE_VERSION = 2_147_483_647;

export interface ProjectedResponse {
  readonly id: string;
  readonly version: number;
  readonly slot: string;
  readonly purpose: string;
  readonly promptKey: string;
  readonly promptLink: string | null;
  readonly groupKey: string;
  readonly context: readonly ChatMessage[];
  readonly answer: string;
  readonly facts: Readonly<Record<string, string>> | null;
  readonly imageId: string | null;
  readonly complete: boolean;
  readonly createdAt: string;
}

const COLUMNS = `slot, purpose, prompt_key, prompt_link, group_key, context, answer, facts, image_id, complete, created_at`;

function values(tx: Tx, row: ProjectedResponse): unknown[] {
  return [
    tx.projectId,
    row.id,
    row.version,
    row.slot,
    row.purpose,
    row.promptKey,
    row.promptLink,
    row.groupKey,
    storableJson(row.context),
    storableText(row.answer),
    row.facts === null ? null : storableJson(row.facts),
    row.imageId,
    row.complete,
    row.createdAt,
  ];
}

/** False when the answer is known already, deleted or not. */
export async function insertResponse(tx: Tx, row: ProjectedResponse): Promise<boolean> {
  const inserted = await tx.execute(
    `INSERT INTO responses (project_id, id, version, ${COLUMNS})
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING`,
    values(tx, row),
  );
  return inserted === 1;
}

export interface KnownResponse {
  version: number;
  group_key: string | null;
  complete: boolean;
  deleted: boolean;
}

export async function lockResponse(tx: Tx, id: string): Promise<KnownResponse | undefined> {
  return tx.one<KnownResponse>(
    `SELECT version, group_key, complete, deleted_at IS NOT NULL AS deleted FROM responses WHERE id = $1 FOR UPDATE`,
    [id],
  );
}

export async function updateResponse(tx: Tx, row: ProjectedResponse): Promise<void> {
  await tx.execute(
    `UPDATE responses SET version = $3, (${COLUMNS}) = ($4, $5, $6::uuid, $7, $8, $9::jsonb, $10, $11::jsonb,
       $12::uuid, $13, $14::timestamptz)
     WHERE project_id = $1 AND id = $2`,
    values(tx, row),
  );
}

/** A tombstone learns the group of an answer that it overtook: the group's ties to others hold without the answer. */
export async function setResponseGroup(tx: Tx, id: string, groupKey: string): Promise<void> {
  await tx.execute('UPDATE responses SET group_key = $2 WHERE id = $1', [id, groupKey]);
}

/** Leaves a tombstone without texts, also for an answer that has not been seen. */
export async function deleteResponses(tx: Tx, ids: readonly string[], version: number): Promise<void> {
  await tx.execute(
    `INSERT INTO responses (project_id, id, version, deleted_at) SELECT $1, id, $3, now() FROM unnest($2::uuid[]) AS id
     ON CONFLICT (project_id, id) DO UPDATE SET version = greatest(responses.version, EXCLUDED.version),
       context = NULL, answer = NULL, facts = NULL, deleted_at = coalesce(responses.deleted_at, EXCLUDED.deleted_at)`,
    [tx.projectId, ids, version],
  );
}

/** Answers that counting feedback names and of which nothing, or not the whole, is known here. */
export async function findMissingResponses(tx: Tx, maxRows: number): Promise<string[]> {
  const rows = await tx.query<{ id: string }>(
    `SELECT named.id FROM (
       SELECT chosen_response_id AS id FROM preferences WHERE NOT retracted
       UNION SELECT rejected_response_id FROM preferences WHERE NOT retracted AND rejected_response_id IS NOT NULL
       UNION SELECT response_id FROM rewards WHERE NOT retracted
     ) named
     LEFT JOIN responses r ON r.id = named.id
     WHERE r.id IS NULL OR (NOT r.complete AND r.deleted_at IS NULL AND r.purpose <> 'evaluation')
     ORDER BY named.id LIMIT $1`,
    [maxRows],
  );
  return rows.map((row) => row.id);
}
