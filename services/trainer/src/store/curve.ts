import { newId } from '@tuneloop/runtime/ids';
import type { Tx } from '@tuneloop/runtime/pg/database';

/** One optimiser step. */
export interface MetricRow {
  id: string;
  step: number;
  epoch: number;
  loss: number;
  eval_loss: number | null;
  learning_rate: number;
  grad_norm: number;
  tokens_per_second: number;
  reward_margin: number | null;
  accuracy: number | null;
  created_at: Date;
}

export type NewMetric = Omit<MetricRow, 'id' | 'created_at'>;

export interface JobEventRow {
  id: string;
  type: 'message' | 'metrics';
  level: 'info' | 'warn' | 'error';
  message: string;
  step: number | null;
  loss: number | null;
  eval_loss: number | null;
  accuracy: number | null;
  learning_rate: number | null;
  created_at: Date;
}

/** Steps that a resumed run goes through again keep their first row's id and take the new numbers. */
export async function insertMetrics(tx: Tx, jobId: string, metrics: readonly NewMetric[]): Promise<void> {
  if (metrics.length === 0) return;
  await tx.execute(
    `INSERT INTO training_metrics (id, project_id, job_id, step, epoch, loss, eval_loss, learning_rate, grad_norm,
       tokens_per_second, reward_margin, accuracy)
     SELECT id, $1, $2, step, epoch, loss, eval_loss, learning_rate, grad_norm, tokens_per_second, reward_margin, accuracy
     FROM jsonb_to_recordset($3::jsonb) AS m(id uuid, step int, epoch float8, loss float8, eval_loss float8,
       learning_rate float8, grad_norm float8, tokens_per_second float8, reward_margin float8, accuracy float8)
     ON CONFLICT (job_id, step) DO UPDATE SET loss = EXCLUDED.loss, eval_loss = EXCLUDED.eval_loss,
       grad_norm = EXCLUDED.grad_norm, tokens_per_second = EXCLUDED.tokens_per_second,
       reward_margin = EXCLUDED.reward_margin, accuracy = EXCLUDED.accuracy`,
    [tx.projectId, jobId, JSON.stringify(metrics.map((metric) => ({ ...metric, id: newId() })))],
  );
}

export async function listMetrics(tx: Tx, jobId: string, limit: number, afterStep: number): Promise<MetricRow[]> {
  return tx.query<MetricRow>('SELECT * FROM training_metrics WHERE job_id = $1 AND step > $2 ORDER BY step LIMIT $3', [
    jobId,
    afterStep,
    limit,
  ]);
}

/** The last steps' numbers: of the final step, and the last evaluation loss there was. */
export async function lastMetrics(
  tx: Tx,
  jobId: string,
): Promise<{ loss: number; accuracy: number | null; eval_loss: number | null } | undefined> {
  return tx.one(
    `SELECT m.loss, m.accuracy, (SELECT e.eval_loss FROM training_metrics e
       WHERE e.job_id = $1 AND e.eval_loss IS NOT NULL ORDER BY e.step DESC LIMIT 1) AS eval_loss
     FROM training_metrics m WHERE m.job_id = $1 ORDER BY m.step DESC LIMIT 1`,
    [jobId],
  );
}

export async function insertMessage(
  tx: Tx,
  jobId: string,
  level: JobEventRow['level'],
  message: string,
): Promise<void> {
  await tx.execute(
    'INSERT INTO training_messages (id, project_id, job_id, level, message) VALUES ($1, $2, $3, $4, $5)',
    [newId(), tx.projectId, jobId, level, message],
  );
}

/** Messages and steps together, newest first; ids grow with time. */
export async function listJobEvents(
  tx: Tx,
  jobId: string,
  limit: number,
  before: string | undefined,
): Promise<JobEventRow[]> {
  return tx.query<JobEventRow>(
    `SELECT * FROM (
       SELECT id, 'message' AS type, level, message, NULL::int AS step, NULL::float8 AS loss, NULL::float8 AS eval_loss,
         NULL::float8 AS accuracy, NULL::float8 AS learning_rate, created_at
       FROM training_messages WHERE job_id = $1 AND ($3::uuid IS NULL OR id < $3)
       UNION ALL
       SELECT id, 'metrics', 'info', 'Step ' || step || ': training loss=' || round(loss::numeric, 4), step, loss,
         eval_loss, accuracy, learning_rate, created_at
       FROM training_metrics WHERE job_id = $1 AND ($3::uuid IS NULL OR id < $3)
     ) events ORDER BY id DESC LIMIT $2`,
    [jobId, limit, before ?? null],
  );
}
