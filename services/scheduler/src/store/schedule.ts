import type { Tx } from '@tuneloop/runtime/pg/database';

export interface ScheduleRow {
  project_id: string;
  cron: string;
  time_zone: string;
  paused: boolean;
  next_run_at: Date | null;
  last_run_at: Date | null;
}

export async function findSchedule(tx: Tx): Promise<ScheduleRow | undefined> {
  return tx.one<ScheduleRow>('SELECT * FROM schedules WHERE project_id = $1', [tx.projectId]);
}

export async function lockSchedule(tx: Tx): Promise<ScheduleRow | undefined> {
  return tx.one<ScheduleRow>('SELECT * FROM schedules WHERE project_id = $1 FOR UPDATE SKIP LOCKED', [tx.projectId]);
}

export async function upsertSchedule(
  tx: Tx,
  row: Pick<ScheduleRow, 'cron' | 'time_zone' | 'paused' | 'next_run_at'>,
): Promise<ScheduleRow> {
  const stored = await tx.one<ScheduleRow>(
    `INSERT INTO schedules (project_id, cron, time_zone, paused, next_run_at) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (project_id) DO UPDATE SET cron = EXCLUDED.cron, time_zone = EXCLUDED.time_zone,
       paused = EXCLUDED.paused, next_run_at = EXCLUDED.next_run_at, updated_at = now()
     RETURNING *`,
    [tx.projectId, row.cron, row.time_zone, row.paused, row.next_run_at],
  );
  return stored!;
}

export async function advanceSchedule(tx: Tx, firedAt: Date, nextRunAt: Date | null): Promise<void> {
  await tx.execute('UPDATE schedules SET next_run_at = $2, last_run_at = $3 WHERE project_id = $1', [
    tx.projectId,
    nextRunAt,
    firedAt,
  ]);
}

/** False when this tick has fired already. */
export async function insertTick(tx: Tx, fireAt: Date, requestId: string): Promise<boolean> {
  const inserted = await tx.execute(
    'INSERT INTO schedule_ticks (project_id, fire_at, request_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
    [tx.projectId, fireAt, requestId],
  );
  return inserted === 1;
}
