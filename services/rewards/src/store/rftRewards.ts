import type { Tx } from '@tuneloop/runtime/pg/database';
import type { Json } from '../domain/json.ts';
import type { RewardTotals } from './statistics.ts';

export interface RftFilter {
  readonly response_id: string | null;
  readonly min_score: number | null;
  readonly max_score: number | null;
}

export interface RftRewardRow {
  readonly id: string;
  readonly response_id: string;
  readonly score: number;
  readonly detail: Json | null;
  readonly created_at: Date;
  readonly user_id: string | null;
  readonly prompt: string | null;
  readonly response_text: string | null;
  readonly model_id: string | null;
  readonly response_created_at: Date | null;
}

const MATCHES = `w.status = 'active' AND ($1::uuid IS NULL OR w.response_id = $1)
  AND ($2::float8 IS NULL OR w.score >= $2) AND ($3::float8 IS NULL OR w.score <= $3)`;

/** Rewards with their answers, newest first. */
export async function listRftRewards(
  tx: Tx,
  filter: RftFilter,
  limit: number,
  offset: number,
): Promise<RftRewardRow[]> {
  return tx.query<RftRewardRow>(
    `SELECT w.id, w.response_id, w.score, w.detail, w.created_at, r.user_id, r.prompt, r.response_text, r.model_id,
       r.created_at AS response_created_at
     FROM rewards w LEFT JOIN responses r ON r.id = w.response_id AND r.deleted_at IS NULL
     WHERE ${MATCHES} ORDER BY w.created_at DESC, w.id DESC LIMIT $4 OFFSET $5`,
    [filter.response_id, filter.min_score, filter.max_score, limit, offset],
  );
}

export async function totalRftRewards(tx: Tx, filter: RftFilter): Promise<RewardTotals> {
  const row = await tx.one<RewardTotals>(
    `SELECT count(*) AS total, coalesce(avg(score), 0) AS avg_score, coalesce(min(score), 0) AS min_score,
       coalesce(max(score), 0) AS max_score, count(*) FILTER (WHERE score > 0) AS positive,
       count(*) FILTER (WHERE score < 0) AS negative, count(*) FILTER (WHERE score = 0) AS neutral
     FROM rewards w WHERE ${MATCHES}`,
    [filter.response_id, filter.min_score, filter.max_score],
  );
  return row!;
}
