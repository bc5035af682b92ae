import type { metricValue } from '@tuneloop/contracts/trainer/events';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { z } from 'zod';
import type { GateDecision } from '../domain/gate.ts';
import type { JobError } from '../domain/job.ts';
import type { DeploymentTarget } from './deployments.ts';

export type Metrics = Record<string, z.output<typeof metricValue>>;

export interface EvaluationRow {
  id: string;
  project_id: string;
  job_id: string;
  checkpoint_id: string;
  slot: string;
  status: 'queued' | 'running' | 'completed' | 'failed' | 'cancelled';
  incumbent: Omit<DeploymentTarget, 'weight'> | null;
  progress: { readonly stage: string; readonly done: number; readonly total: number } | null;
  before: Metrics | null;
  after: Metrics | null;
  difference: Metrics | null;
  judge: { readonly kind: string; readonly name: string } | null;
  samples_key: string | null;
  error: JobError | null;
  attempts: number;
  created_at: Date;
  started_at: Date | null;
  completed_at: Date | null;
}

export async function insertEvaluation(
  tx: Tx,
  row: Pick<EvaluationRow, 'id' | 'job_id' | 'checkpoint_id' | 'slot'>,
): Promise<void> {
  await tx.execute(
    `INSERT INTO evaluations (id, project_id, job_id, checkpoint_id, slot, status) VALUES ($1, $2, $3, $4, $5, 'queued')
     ON CONFLICT (job_id) DO NOTHING`,
    [row.id, tx.projectId, row.job_id, row.checkpoint_id, row.slot],
  );
}

export async function findEvaluationById(tx: Tx, id: string): Promise<EvaluationRow | undefined> {
  return tx.one<EvaluationRow>('SELECT * FROM evaluations WHERE id = $1', [id]);
}

export async function listEvaluations(
  tx: Tx,
  filter: { readonly jobId?: string | undefined; readonly checkpointId?: string | undefined },
  limit: number,
  before: string | undefined,
): Promise<EvaluationRow[]> {
  return tx.query<EvaluationRow>(
    `SELECT * FROM evaluations WHERE ($2::uuid IS NULL OR id < $2) AND ($3::uuid IS NULL OR job_id = $3)
       AND ($4::uuid IS NULL OR checkpoint_id = $4) ORDER BY id DESC LIMIT $1`,
    [limit, before ?? null, filter.jobId ?? null, filter.checkpointId ?? null],
  );
}

export type EvaluationChange = Partial<
  Pick<
    EvaluationRow,
    | 'status'
    | 'incumbent'
    | 'progress'
    | 'before'
    | 'after'
    | 'difference'
    | 'judge'
    | 'samples_key'
    | 'error'
    | 'attempts'
    | 'started_at'
    | 'completed_at'
  >
>;
const JSON_COLUMNS = ['incumbent', 'progress', 'before', 'after', 'difference', 'judge', 'error'] as const;
const PLAIN_COLUMNS = ['status', 'samples_key', 'attempts', 'started_at', 'completed_at'] as const;

export async function updateEvaluation(tx: Tx, id: string, change: EvaluationChange): Promise<void> {
  const json = JSON_COLUMNS.filter((column) => change[column] !== undefined);
  const plain = PLAIN_COLUMNS.filter((column) => change[column] !== undefined);
  const columns = [...json, ...plain];
  if (columns.length === 0) return;
  const values = [
    ...json.map((column) => (change[column] === null ? null : JSON.stringify(change[column]))),
    ...plain.map((column) => change[column]),
  ];
  const assignments = columns.map((column, index) => `${column} = $${index + 2}`).join(', ');
  await tx.execute(`UPDATE evaluations SET ${assignments} WHERE id = $1`, [id, ...values]);
}

/** Ends an evaluation that waits or runs; its holder notices by the status. */
export async function cancelEvaluationOfJob(tx: Tx, jobId: string, at: Date): Promise<void> {
  await tx.execute(
    `UPDATE evaluations SET status = 'cancelled', completed_at = $2 WHERE job_id = $1 AND status IN ('queued', 'running')`,
    [jobId, at],
  );
}

export interface DecisionRow {
  id: string;
  slot: string;
  job_id: string;
  evaluation_id: string;
  checkpoint_id: string;
  decision: 'promoted' | 'kept';
  reason: string;
  decided_by: string;
  numbers: GateDecision;
  created_at: Date;
  overridden_at: Date | null;
}

export async function insertDecision(
  tx: Tx,
  row: Omit<DecisionRow, 'created_at' | 'overridden_at'>,
): Promise<DecisionRow> {
  const stored = await tx.one<DecisionRow>(
    `INSERT INTO promotion_decisions (id, project_id, slot, job_id, evaluation_id, checkpoint_id, decision, reason,
       decided_by, numbers)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING *`,
    [
      row.id,
      tx.projectId,
      row.slot,
      row.job_id,
      row.evaluation_id,
      row.checkpoint_id,
      row.decision,
      row.reason,
      row.decided_by,
      JSON.stringify(row.numbers),
    ],
  );
  return stored!;
}

export async function findDecisionById(tx: Tx, id: string): Promise<DecisionRow | undefined> {
  return tx.one<DecisionRow>('SELECT * FROM promotion_decisions WHERE id = $1', [id]);
}

export async function lockDecisionById(tx: Tx, id: string): Promise<DecisionRow | undefined> {
  return tx.one<DecisionRow>('SELECT * FROM promotion_decisions WHERE id = $1 FOR UPDATE', [id]);
}

export async function listDecisions(
  tx: Tx,
  filter: { readonly slot?: string | undefined; readonly jobId?: string | undefined },
  limit: number,
  before: string | undefined,
): Promise<DecisionRow[]> {
  return tx.query<DecisionRow>(
    `SELECT * FROM promotion_decisions WHERE ($2::uuid IS NULL OR id < $2) AND ($3::text IS NULL OR slot = $3)
       AND ($4::uuid IS NULL OR job_id = $4) ORDER BY id DESC LIMIT $1`,
    [limit, before ?? null, filter.slot ?? null, filter.jobId ?? null],
  );
}

export async function storeOverride(
  tx: Tx,
  id: string,
  change: Pick<DecisionRow, 'decision' | 'reason' | 'decided_by' | 'numbers'>,
  at: Date,
): Promise<DecisionRow> {
  const stored = await tx.one<DecisionRow>(
    `UPDATE promotion_decisions SET decision = $2, reason = $3, decided_by = $4, numbers = $5, overridden_at = $6
     WHERE id = $1 RETURNING *`,
    [id, change.decision, change.reason, change.decided_by, JSON.stringify(change.numbers), at],
  );
  return stored!;
}
