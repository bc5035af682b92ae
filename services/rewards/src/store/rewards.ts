import type { FeedbackKind } from '@tuneloop/contracts/rewards/events';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { Json } from '../domain/json.ts';

export type RetractionReason = 'superseded' | 'deleted' | 'erased' | 'judge_muted';

export interface RewardRow {
  readonly id: string;
  readonly version: number;
  readonly feedback_id: string | null;
  readonly response_id: string;
  readonly prompt_key: string;
  readonly kind: FeedbackKind;
  readonly score: number;
  readonly stars: number | null;
  readonly rater: string;
  readonly identified: boolean;
  readonly synthetic: boolean;
  readonly detail: Json | null;
  readonly brand: string | null;
  readonly task: string | null;
  readonly created_at: Date;
}

const COLUMNS = `id, version, feedback_id, response_id, prompt_key, kind, score, stars, rater, identified, synthetic,
  detail, brand, task, created_at`;

/** $1: project, $3: rewards as JSON. Stands alone or at the end of a statement that inserts their feedback. */
export const INSERT_REWARDS = `INSERT INTO rewards (project_id, ${COLUMNS})
  SELECT $1, ${COLUMNS} FROM jsonb_to_recordset($3::jsonb) AS x(id uuid, version int, feedback_id uuid,
    response_id uuid, prompt_key uuid, kind text, score float8, stars int, rater text, identified boolean,
    synthetic boolean, detail jsonb, brand text, task text, created_at timestamptz)`;

export async function insertReward(tx: Tx, row: RewardRow): Promise<void> {
  await tx.execute(`WITH ignored AS (SELECT $2::text) ${INSERT_REWARDS}`, [tx.projectId, null, JSON.stringify([row])]);
}

export interface RetractedReward {
  readonly id: string;
  readonly response_id: string;
  readonly version: number;
}

const RETRACT = `UPDATE rewards SET status = 'retracted', reason = $2, version = version + 1`;
const RETRACTED = 'RETURNING id, response_id, version';

export async function retractRewardsOfFeedback(
  tx: Tx,
  feedbackIds: readonly string[],
  reason: RetractionReason,
): Promise<RetractedReward[]> {
  // IS NOT NULL says nothing new, but it is what the planner needs in order to use the partial index.
  return tx.query<RetractedReward>(
    `${RETRACT} WHERE feedback_id = ANY($1::uuid[]) AND feedback_id IS NOT NULL AND status = 'active' ${RETRACTED}`,
    [feedbackIds, reason],
  );
}

export async function retractReward(
  tx: Tx,
  id: string,
  reason: RetractionReason,
): Promise<RetractedReward | undefined> {
  return tx.one<RetractedReward>(`${RETRACT} WHERE id = $1 AND status = 'active' ${RETRACTED}`, [id, reason]);
}

export async function retractRewardsOfResponse(
  tx: Tx,
  responseId: string,
  reason: RetractionReason,
): Promise<RetractedReward[]> {
  return tx.query<RetractedReward>(`${RETRACT} WHERE response_id = $1 AND status = 'active' ${RETRACTED}`, [
    responseId,
    reason,
  ]);
}

/** Removes what people wrote about an answer. */
export async function eraseRewardDetails(tx: Tx, responseId: string): Promise<void> {
  await tx.execute('UPDATE rewards SET detail = NULL WHERE response_id = $1 AND detail IS NOT NULL', [responseId]);
}

export async function findActiveReward(tx: Tx, id: string): Promise<RewardRow | undefined> {
  return tx.one<RewardRow>(`SELECT ${COLUMNS} FROM rewards WHERE id = $1 AND status = 'active'`, [id]);
}

export interface RewardChange {
  readonly score: number | undefined;
  /** undefined: as it is. */
  readonly detail: unknown;
}

/** A score set by hand is not the stars that were given. */
export async function updateReward(tx: Tx, id: string, change: RewardChange): Promise<RewardRow | undefined> {
  return tx.one<RewardRow>(
    `UPDATE rewards SET version = version + 1, score = coalesce($2::float8, score),
       stars = CASE WHEN $2::float8 IS NULL OR $2::float8 = score THEN stars END,
       detail = CASE WHEN $3 THEN $4::jsonb ELSE detail END
     WHERE id = $1 AND status = 'active' RETURNING ${COLUMNS}`,
    [id, change.score ?? null, change.detail !== undefined, JSON.stringify(change.detail ?? null)],
  );
}

/** Ratings and rewards follow their answer to another prompt. */
export async function moveRewards(tx: Tx, responseId: string, promptKey: string): Promise<void> {
  await tx.execute('UPDATE rewards SET prompt_key = $2 WHERE response_id = $1 AND prompt_key <> $2', [
    responseId,
    promptKey,
  ]);
}

export interface RewardFilter {
  readonly response_id?: string | undefined;
  readonly kind?: FeedbackKind | undefined;
  readonly synthetic?: boolean | undefined;
  readonly min_score?: number | undefined;
  readonly max_score?: number | undefined;
}

/** Rewards that count, newest first by arrival: ids grow with time. */
export async function listRewards(
  tx: Tx,
  filter: RewardFilter,
  limit: number,
  before: string | null,
): Promise<RewardRow[]> {
  return tx.query<RewardRow>(
    `SELECT ${COLUMNS} FROM rewards WHERE status = 'active'
       AND ($1::uuid IS NULL OR response_id = $1) AND ($2::text IS NULL OR kind = $2)
       AND ($3::boolean IS NULL OR synthetic = $3) AND ($4::float8 IS NULL OR score >= $4)
       AND ($5::float8 IS NULL OR score <= $5) AND ($6::uuid IS NULL OR id < $6)
     ORDER BY id DESC LIMIT $7`,
    [
      filter.response_id ?? null,
      filter.kind ?? null,
      filter.synthetic ?? null,
      filter.min_score ?? null,
      filter.max_score ?? null,
      before,
      limit,
    ],
  );
}

/** All rewards that count, in id order. */
export async function snapshotRewards(tx: Tx, limit: number, after: string | null): Promise<RewardRow[]> {
  return tx.query<RewardRow>(
    `SELECT ${COLUMNS} FROM rewards WHERE status = 'active' AND ($1::uuid IS NULL OR id > $1) ORDER BY id LIMIT $2`,
    [after, limit],
  );
}
