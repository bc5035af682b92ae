import type { Tx } from '@tuneloop/runtime/pg/database';
import { storableJson, storableText } from '../domain/storable.ts';

export type PromptStatus = 'pending' | 'done' | 'failed' | 'skipped';

export interface PromptRow {
  readonly id: string;
  readonly image_id: string | null;
  readonly session_id: string | null;
  readonly user_id: string;
  readonly category: string;
  readonly brand: string | null;
  readonly task: string | null;
  readonly slot: string;
  readonly text: string;
  readonly system: string | null;
  readonly facts: Record<string, string> | null;
  readonly group_key: string;
  readonly template_category: string | null;
  readonly template_version: number | null;
  readonly candidates: number;
  readonly seed: number;
  readonly status: PromptStatus;
  readonly reason: string | null;
  readonly correlation_id: string | null;
  readonly causation_id: string | null;
  readonly created_at: Date;
}

export type NewPrompt = Omit<PromptRow, 'created_at'>;

const COLUMNS = `id, image_id, session_id, user_id, category, brand, task, slot, text, system, facts, group_key,
  template_category, template_version, candidates, seed, status, reason, correlation_id, causation_id, created_at`;

/** Undefined when the picture has its prompt already. */
export async function insertPrompt(tx: Tx, prompt: NewPrompt): Promise<PromptRow | undefined> {
  return tx.one<PromptRow>(
    `INSERT INTO prompts (project_id, id, image_id, session_id, user_id, category, brand, task, slot, text, system, facts,
       group_key, template_category, template_version, candidates, seed, status, reason, correlation_id, causation_id)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
     ON CONFLICT DO NOTHING RETURNING ${COLUMNS}`,
    [
      tx.projectId,
      prompt.id,
      prompt.image_id,
      prompt.session_id,
      prompt.user_id,
      prompt.category,
      prompt.brand,
      prompt.task,
      prompt.slot,
      storableText(prompt.text),
      prompt.system === null ? null : storableText(prompt.system),
      prompt.facts === null ? null : storableJson(prompt.facts),
      prompt.group_key,
      prompt.template_category,
      prompt.template_version,
      prompt.candidates,
      prompt.seed,
      prompt.status,
      prompt.reason,
      prompt.correlation_id,
      prompt.causation_id,
    ],
  );
}

export async function findPrompt(tx: Tx, id: string): Promise<PromptRow | undefined> {
  return tx.one<PromptRow>(`SELECT ${COLUMNS} FROM prompts WHERE id = $1`, [id]);
}

export interface PromptFilter {
  readonly session_id: string | undefined;
  readonly image_id: string | undefined;
  readonly category: string | undefined;
  readonly status: string | undefined;
}

/** In the order in which they were made. */
export async function listPrompts(
  tx: Tx,
  filter: PromptFilter,
  afterId: string | undefined,
  limit: number,
): Promise<PromptRow[]> {
  return tx.query<PromptRow>(
    `SELECT ${COLUMNS} FROM prompts
     WHERE project_id = $1 AND ($2::uuid IS NULL OR id > $2::uuid) AND ($3::uuid IS NULL OR session_id = $3)
       AND ($4::uuid IS NULL OR image_id = $4) AND ($5::text IS NULL OR category = $5)
       AND ($6::text IS NULL OR status = $6)
     ORDER BY id LIMIT $7`,
    [
      tx.projectId,
      afterId ?? null,
      filter.session_id ?? null,
      filter.image_id ?? null,
      filter.category ?? null,
      filter.status ?? null,
      limit,
    ],
  );
}

export async function settlePrompt(tx: Tx, id: string, status: PromptStatus, reason: string | null): Promise<void> {
  await tx.execute('UPDATE prompts SET status = $2, reason = $3 WHERE id = $1', [
    id,
    status,
    reason === null ? null : storableText(reason),
  ]);
}

/** Answers asked for within a session so far. The session stays locked until the transaction ends. */
export async function countSessionCandidates(tx: Tx, sessionId: string): Promise<number> {
  await lockFor(tx, `session ${sessionId}`);
  const row = await tx.one<{ count: number }>(
    `SELECT coalesce(sum(candidates), 0)::int AS count FROM prompts
     WHERE project_id = $1 AND session_id = $2 AND status <> 'skipped'`,
    [tx.projectId, sessionId],
  );
  return row?.count ?? 0;
}

/** Transactions that name the same thing run one after the other. */
export async function lockFor(tx: Tx, name: string): Promise<void> {
  await tx.execute('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`responses ${tx.projectId} ${name}`]);
}

/** Its generation job goes with it. */
export async function deletePromptsOfImage(tx: Tx, imageId: string): Promise<void> {
  await tx.execute('DELETE FROM prompts WHERE project_id = $1 AND image_id = $2', [tx.projectId, imageId]);
}
