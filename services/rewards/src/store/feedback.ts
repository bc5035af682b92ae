import type { FeedbackKind } from '@tuneloop/contracts/rewards/events';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { Json } from '../domain/json.ts';
import { INSERT_REWARDS, type RewardRow } from './rewards.ts';

export type FeedbackStatus = 'active' | 'superseded' | 'deleted';

export interface FeedbackRow {
  readonly id: string;
  readonly kind: FeedbackKind;
  readonly response_id: string;
  readonly other_response_id: string | null;
  readonly user_id: string;
  /** The actor that sent it; null for feedback from before this was kept. */
  readonly submitted_by: string | null;
  readonly rating_key: string | null;
  readonly brand: string | null;
  readonly task: string | null;
  readonly session_id: string | null;
  readonly synthetic: boolean;
  readonly value: Json | null;
  readonly comment: string | null;
  readonly score: number | null;
  readonly status: FeedbackStatus;
  readonly superseded_by: string | null;
  readonly metadata: Record<string, Json> | null;
  readonly created_at: Date;
}

const COLUMNS = `id, kind, response_id, other_response_id, user_id, submitted_by, rating_key, brand, task, session_id, synthetic, value,
  comment, score, status, superseded_by, metadata, created_at`;

/** Feedback and the rewards that follow from it, with one statement: the hot path. */
export async function insertFeedback(
  tx: Tx,
  feedback: readonly FeedbackRow[],
  rewards: readonly RewardRow[],
): Promise<void> {
  await tx.execute(
    `WITH said AS (
       INSERT INTO feedback (project_id, ${COLUMNS})
       SELECT $1, ${COLUMNS} FROM jsonb_to_recordset($2::jsonb) AS x(id uuid, kind text, response_id uuid,
         other_response_id uuid, user_id text, submitted_by text, rating_key uuid, brand text, task text, session_id text,
         synthetic boolean, value jsonb, comment text, score float8, status text, superseded_by uuid, metadata jsonb,
         created_at timestamptz))
     ${INSERT_REWARDS}`,
    [tx.projectId, JSON.stringify(feedback), JSON.stringify(rewards)],
  );
}

export interface Supersession {
  readonly id: string;
  readonly superseded_by: string;
}

/** The ids are named twice so that the planner looks them up, however few it takes the rest of the table for. */
export async function supersedeFeedback(tx: Tx, pairs: readonly Supersession[]): Promise<void> {
  await tx.execute(
    `UPDATE feedback SET status = 'superseded', superseded_by = x.superseded_by
     FROM unnest($1::uuid[], $2::uuid[]) AS x(id, superseded_by)
     WHERE feedback.id = x.id AND feedback.id = ANY($1::uuid[]) AND status = 'active'`,
    [pairs.map((pair) => pair.id), pairs.map((pair) => pair.superseded_by)],
  );
}

export async function findFeedbackById(tx: Tx, id: string): Promise<FeedbackRow | undefined> {
  return tx.one<FeedbackRow>(`SELECT ${COLUMNS} FROM feedback WHERE id = $1`, [id]);
}

/** Marks feedback as taken back. Returns it as it was, or undefined when it did not count any more. */
export async function deleteFeedback(tx: Tx, id: string): Promise<FeedbackRow | undefined> {
  return tx.one<FeedbackRow>(
    `UPDATE feedback SET status = 'deleted' WHERE id = $1 AND status = 'active' RETURNING ${COLUMNS}`,
    [id],
  );
}

/** Marks all feedback on an answer as taken back with it. */
export async function deleteFeedbackOfResponse(tx: Tx, responseId: string): Promise<void> {
  await tx.execute(
    `UPDATE feedback SET status = 'deleted' WHERE (response_id = $1 OR other_response_id = $1) AND status = 'active'`,
    [responseId],
  );
}

/** Removes what people wrote about an answer. */
export async function eraseFeedbackTexts(tx: Tx, responseId: string): Promise<void> {
  await tx.execute(
    `UPDATE feedback SET value = NULL, comment = NULL, metadata = NULL
     WHERE response_id = $1 OR other_response_id = $1`,
    [responseId],
  );
}

export interface FeedbackFilter {
  readonly response_id?: string | undefined;
  readonly kind?: FeedbackKind | undefined;
  readonly user_id?: string | undefined;
  readonly synthetic?: boolean | undefined;
  readonly status: FeedbackStatus | 'all';
}

/** Newest first by arrival: ids grow with time. */
export async function listFeedback(
  tx: Tx,
  filter: FeedbackFilter,
  limit: number,
  before: string | null,
): Promise<FeedbackRow[]> {
  return tx.query<FeedbackRow>(
    `SELECT ${COLUMNS} FROM feedback
     WHERE ($1::uuid IS NULL OR response_id = $1) AND ($2::text IS NULL OR kind = $2)
       AND ($3::text IS NULL OR user_id = $3) AND ($4::boolean IS NULL OR synthetic = $4)
       AND ($5 = 'all' OR status = $5) AND ($6::uuid IS NULL OR id < $6)
     ORDER BY id DESC LIMIT $7`,
    [
      filter.response_id ?? null,
      filter.kind ?? null,
      filter.user_id ?? null,
      filter.synthetic ?? null,
      filter.status,
      before,
      limit,
    ],
  );
}
