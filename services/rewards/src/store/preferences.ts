import type { FeedbackKind } from '@tuneloop/contracts/rewards/events';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { RetractionReason } from './rewards.ts';

export type PreferenceSource = 'ab' | 'correction' | 'ratings' | 'import';

export interface PreferenceRow {
  readonly id: string;
  readonly version: number;
  readonly source: PreferenceSource;
  readonly kind: FeedbackKind;
  readonly prompt_key: string;
  readonly chosen_response_id: string;
  readonly rejected_response_id: string | null;
  readonly chosen_text: string | null;
  readonly margin: number | null;
  readonly feedback_ids: readonly string[];
  readonly rater: string;
  readonly synthetic: boolean;
  readonly created_at: Date;
}

const COLUMNS = `id, version, source, kind, prompt_key, chosen_response_id, rejected_response_id, chosen_text, margin,
  feedback_ids, rater, synthetic, created_at`;

/**
 * Records preferences; one that was retracted before counts again under its old id, as its next version. Returns what
 * changed, with versions.
 */
export async function upsertPreferences(tx: Tx, rows: readonly PreferenceRow[]): Promise<PreferenceRow[]> {
  return tx.query<PreferenceRow>(
    `INSERT INTO preferences (project_id, ${COLUMNS})
     SELECT $1, ${COLUMNS} FROM jsonb_to_recordset($2::jsonb) AS x(id uuid, version int, source text, kind text,
       prompt_key uuid, chosen_response_id uuid, rejected_response_id uuid, chosen_text text, margin float8,
       feedback_ids uuid[], rater text, synthetic boolean, created_at timestamptz)
     ON CONFLICT (project_id, id) DO UPDATE SET status = 'active', reason = NULL, version = preferences.version + 1,
       margin = EXCLUDED.margin, prompt_key = EXCLUDED.prompt_key
     WHERE preferences.status = 'retracted'
     RETURNING ${COLUMNS}`,
    [tx.projectId, JSON.stringify(rows)],
  );
}

export interface RetractedPreference {
  readonly id: string;
  readonly version: number;
}

const RETRACT = `UPDATE preferences SET status = 'retracted', reason = $2, version = version + 1`;

export async function retractPreferences(
  tx: Tx,
  ids: readonly string[],
  reason: RetractionReason,
): Promise<RetractedPreference[]> {
  return tx.query<RetractedPreference>(
    `${RETRACT} WHERE id = ANY($1::uuid[]) AND status = 'active' RETURNING id, version`,
    [ids, reason],
  );
}

export async function retractPreferencesOfResponse(
  tx: Tx,
  responseId: string,
  reason: RetractionReason,
): Promise<RetractedPreference[]> {
  return tx.query<RetractedPreference>(
    `${RETRACT} WHERE (chosen_response_id = $1 OR rejected_response_id = $1) AND status = 'active' RETURNING id, version`,
    [responseId, reason],
  );
}

/** Removes what people wrote about an answer. */
export async function erasePreferenceTexts(tx: Tx, responseId: string): Promise<void> {
  await tx.execute(
    `UPDATE preferences SET chosen_text = NULL
     WHERE (chosen_response_id = $1 OR rejected_response_id = $1) AND chosen_text IS NOT NULL`,
    [responseId],
  );
}

/** Ids of the pairs that ratings of these prompts make at present. */
export async function findRatedPairIds(tx: Tx, promptKeys: readonly string[]): Promise<string[]> {
  const rows = await tx.query<{ id: string }>(
    `SELECT id FROM preferences WHERE prompt_key = ANY($1::uuid[]) AND source = 'ratings' AND status = 'active'`,
    [promptKeys],
  );
  return rows.map((row) => row.id);
}

export interface PreferenceFilter {
  readonly response_id?: string | undefined;
  readonly source?: PreferenceSource | undefined;
  readonly synthetic?: boolean | undefined;
}

export interface PreferencePosition {
  readonly created_at: string;
  readonly id: string;
}

/** Preferences that count, newest first. Their ids follow from the feedback, so time decides first. */
export async function listPreferences(
  tx: Tx,
  filter: PreferenceFilter,
  limit: number,
  before: PreferencePosition | null,
): Promise<PreferenceRow[]> {
  return tx.query<PreferenceRow>(
    `SELECT ${COLUMNS} FROM preferences WHERE status = 'active'
       AND ($1::uuid IS NULL OR chosen_response_id = $1 OR rejected_response_id = $1)
       AND ($2::text IS NULL OR source = $2) AND ($3::boolean IS NULL OR synthetic = $3)
       AND ($4::timestamptz IS NULL OR (created_at, id) < ($4::timestamptz, $5::uuid))
     ORDER BY created_at DESC, id DESC LIMIT $6`,
    [
      filter.response_id ?? null,
      filter.source ?? null,
      filter.synthetic ?? null,
      before?.created_at ?? null,
      before?.id ?? null,
      limit,
    ],
  );
}

/** All preferences that count, in id order. */
export async function snapshotPreferences(tx: Tx, limit: number, after: string | null): Promise<PreferenceRow[]> {
  return tx.query<PreferenceRow>(
    `SELECT ${COLUMNS} FROM preferences WHERE status = 'active' AND ($1::uuid IS NULL OR id > $1) ORDER BY id LIMIT $2`,
    [after, limit],
  );
}
