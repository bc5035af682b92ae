import type { Tx } from '@tuneloop/runtime/pg/database';

/** Models and groups beyond these are left out of an answer, smallest first. */
const MAX_MODELS = 200;
const MAX_GROUPS = 500;

export interface StatisticsFilter {
  readonly brand: string | null;
  readonly task: string | null;
  readonly kind: string | null;
  readonly from: string | null;
  readonly to: string | null;
}

export interface ModelCount {
  readonly model_id: string;
  readonly total: number;
  readonly recent: number;
}

/** Live responses by model, with those since `recentFrom`. */
export async function countResponses(tx: Tx, filter: StatisticsFilter, recentFrom: Date): Promise<ModelCount[]> {
  return tx.query<ModelCount>(
    `SELECT model_id, count(*) AS total, count(*) FILTER (WHERE created_at >= $5) AS recent FROM responses
     WHERE deleted_at IS NULL AND ($1::text IS NULL OR brand = $1) AND ($2::text IS NULL OR task = $2)
       AND ($3::timestamptz IS NULL OR created_at >= $3) AND ($4::timestamptz IS NULL OR created_at < $4)
     GROUP BY model_id ORDER BY total DESC, model_id LIMIT $6`,
    [filter.brand, filter.task, filter.from, filter.to, recentFrom, MAX_MODELS],
  );
}

export interface RewardTotals {
  readonly total: number;
  readonly avg_score: number;
  readonly min_score: number;
  readonly max_score: number;
  readonly positive: number;
  readonly negative: number;
  readonly neutral: number;
}

const TOTALS = `count(*) AS total, coalesce(avg(score), 0) AS avg_score, coalesce(min(score), 0) AS min_score,
  coalesce(max(score), 0) AS max_score, count(*) FILTER (WHERE score > 0) AS positive,
  count(*) FILTER (WHERE score < 0) AS negative, count(*) FILTER (WHERE score = 0) AS neutral`;
const MATCHES = `status = 'active' AND ($1::text IS NULL OR brand = $1) AND ($2::text IS NULL OR task = $2)
  AND ($3::text IS NULL OR kind = $3) AND ($4::timestamptz IS NULL OR created_at >= $4)
  AND ($5::timestamptz IS NULL OR created_at < $5)`;

function values(filter: StatisticsFilter): (string | null)[] {
  return [filter.brand, filter.task, filter.kind, filter.from, filter.to];
}

export async function totalRewards(tx: Tx, filter: StatisticsFilter): Promise<RewardTotals> {
  const row = await tx.one<RewardTotals>(`SELECT ${TOTALS} FROM rewards WHERE ${MATCHES}`, values(filter));
  return row!;
}

export type Grouping = 'brand' | 'task' | 'kind' | 'day';

const GROUP_KEYS: Readonly<Record<Grouping, string>> = {
  brand: 'brand',
  task: 'task',
  kind: 'kind',
  day: `to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')`,
};

export async function groupRewards(
  tx: Tx,
  by: Grouping,
  filter: StatisticsFilter,
): Promise<(RewardTotals & { readonly key: string | null })[]> {
  const order = by === 'day' ? 'key DESC' : 'total DESC, key';
  return tx.query(
    `SELECT ${GROUP_KEYS[by]} AS key, ${TOTALS} FROM rewards WHERE ${MATCHES} GROUP BY 1 ORDER BY ${order} LIMIT ${MAX_GROUPS}`,
    values(filter),
  );
}

export interface CheckpointTotals {
  readonly total: number;
  readonly active: number;
  readonly best_performance: number | null;
}

export async function countCheckpoints(tx: Tx): Promise<CheckpointTotals> {
  const row = await tx.one<CheckpointTotals>(
    `SELECT (SELECT count(*) FROM checkpoints) AS total,
       (SELECT count(DISTINCT id) FROM deployments, unnest(checkpoint_ids) AS id) AS active,
       (SELECT max(fresh_reward) FROM checkpoints) AS best_performance`,
  );
  return row!;
}
