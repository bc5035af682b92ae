import type { createRetrainingRequest, RetrainingRun } from '@tuneloop/contracts/scheduler/http';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { z } from 'zod';

export type RequestSpec = z.output<NonNullable<(typeof createRetrainingRequest)['body']>>;

export interface RequestRow {
  id: string;
  requested_by: string;
  reason: string;
  priority: 'low' | 'normal' | 'high';
  status: 'pending' | 'processing' | 'completed' | 'cancelled';
  slot: string;
  method: RequestSpec['method'];
  source: RetrainingRun['source'];
  spec: RequestSpec;
  retraining_run_id: string | null;
  processed_at: Date | null;
  created_at: Date;
}

export interface RunRow {
  id: string;
  request_id: string;
  source: RetrainingRun['source'];
  slot: string;
  status: RetrainingRun['status'];
  stage: RetrainingRun['stage'];
  deadline_at: Date | null;
  dataset_size: number | null;
  dataset_version_id: string | null;
  job_id: string | null;
  checkpoint_id: string | null;
  fine_tune_flag: boolean;
  outcome: RetrainingRun['outcome'];
  metrics: RetrainingRun['metrics'];
  log_url: string | null;
  error_message: string | null;
  triggered_by: string;
  started_at: Date | null;
  completed_at: Date | null;
  created_at: Date;
  updated_at: Date;
}

/** Columns that a step of the run may change; what is left out stays. */
export type RunChange = Partial<
  Pick<
    RunRow,
    | 'status'
    | 'stage'
    | 'deadline_at'
    | 'dataset_size'
    | 'dataset_version_id'
    | 'job_id'
    | 'checkpoint_id'
    | 'fine_tune_flag'
    | 'outcome'
    | 'metrics'
    | 'error_message'
    | 'started_at'
    | 'completed_at'
  >
>;

const CHANGEABLE: readonly (keyof RunChange)[] = [
  'status',
  'stage',
  'deadline_at',
  'dataset_size',
  'dataset_version_id',
  'job_id',
  'checkpoint_id',
  'fine_tune_flag',
  'outcome',
  'metrics',
  'error_message',
  'started_at',
  'completed_at',
];

export async function insertRequest(
  tx: Tx,
  row: Pick<RequestRow, 'id' | 'requested_by' | 'source' | 'spec'>,
): Promise<RequestRow> {
  const stored = await tx.one<RequestRow>(
    `INSERT INTO retraining_requests (id, project_id, requested_by, reason, priority, status, slot, method, source, spec)
     VALUES ($1, $2, $3, $4, $5, 'pending', $6, $7, $8, $9) RETURNING *`,
    [
      row.id,
      tx.projectId,
      row.requested_by,
      row.spec.reason,
      row.spec.priority,
      row.spec.slot,
      row.spec.method,
      row.source,
      JSON.stringify(row.spec),
    ],
  );
  return stored!;
}

export async function findRequestById(tx: Tx, id: string): Promise<RequestRow | undefined> {
  return tx.one<RequestRow>('SELECT * FROM retraining_requests WHERE id = $1', [id]);
}

/** The request, locked, when it still waits; undefined when another scheduler has it or it is over. */
export async function lockPendingRequest(tx: Tx, id: string): Promise<RequestRow | undefined> {
  return tx.one<RequestRow>(
    `SELECT * FROM retraining_requests WHERE id = $1 AND status = 'pending' FOR UPDATE SKIP LOCKED`,
    [id],
  );
}

export async function listRequests(tx: Tx, limit: number, before: string | undefined): Promise<RequestRow[]> {
  return tx.query<RequestRow>(
    `SELECT * FROM retraining_requests WHERE $2::uuid IS NULL OR id < $2::uuid ORDER BY id DESC LIMIT $1`,
    [limit, before ?? null],
  );
}

export async function markRequest(
  tx: Tx,
  id: string,
  status: RequestRow['status'],
  runId: string | null,
  at: Date,
): Promise<RequestRow> {
  const stored = await tx.one<RequestRow>(
    `UPDATE retraining_requests SET status = $2, retraining_run_id = coalesce($3, retraining_run_id), processed_at = $4
     WHERE id = $1 RETURNING *`,
    [id, status, runId, at],
  );
  return stored!;
}

/** False when the slot has an open run already. */
export async function insertRun(
  tx: Tx,
  row: Pick<RunRow, 'id' | 'request_id' | 'source' | 'slot' | 'triggered_by' | 'deadline_at'>,
): Promise<boolean> {
  const inserted = await tx.execute(
    `INSERT INTO retraining_runs (id, project_id, request_id, source, slot, status, stage, deadline_at, triggered_by)
     VALUES ($1, $2, $3, $4, $5, 'pending', 'dataset', $6, $7) ON CONFLICT DO NOTHING`,
    [row.id, tx.projectId, row.request_id, row.source, row.slot, row.deadline_at, row.triggered_by],
  );
  return inserted === 1;
}

export async function findRunById(tx: Tx, id: string): Promise<RunRow | undefined> {
  return tx.one<RunRow>('SELECT * FROM retraining_runs WHERE id = $1', [id]);
}

/** The open run of a request, locked. Undefined for requests that are not ours and for runs that are over. */
export async function lockOpenRun(tx: Tx, by: { requestId: string } | { id: string }): Promise<RunRow | undefined> {
  const [column, value] = 'id' in by ? ['id', by.id] : ['request_id', by.requestId];
  return tx.one<RunRow>(
    `SELECT * FROM retraining_runs WHERE ${column} = $1 AND status IN ('pending', 'running') FOR UPDATE`,
    [value],
  );
}

export async function listRuns(tx: Tx, limit: number, before: string | undefined): Promise<RunRow[]> {
  return tx.query<RunRow>(
    `SELECT * FROM retraining_runs WHERE $2::uuid IS NULL OR id < $2::uuid ORDER BY id DESC LIMIT $1`,
    [limit, before ?? null],
  );
}

export async function updateRun(tx: Tx, id: string, change: RunChange): Promise<void> {
  const columns = CHANGEABLE.filter((column) => change[column] !== undefined);
  if (columns.length === 0) return;
  const values = columns.map((column) => (column === 'metrics' ? JSON.stringify(change.metrics) : change[column]));
  const assignments = columns.map((column, index) => `${column} = $${index + 2}`).join(', ');
  await tx.execute(`UPDATE retraining_runs SET ${assignments}, updated_at = now() WHERE id = $1`, [id, ...values]);
}
