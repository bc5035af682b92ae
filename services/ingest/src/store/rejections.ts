import type { Tx } from '@tuneloop/runtime/pg/database';

export interface RejectionRow {
  readonly id: string;
  readonly session_id: string | null;
  readonly source: string;
  readonly code: string;
  readonly field: string | null;
  readonly reason: string;
  readonly created_at: Date;
}

/** False when this one was told before. */
export async function insertRejection(tx: Tx, row: Omit<RejectionRow, 'created_at'>): Promise<boolean> {
  const inserted = await tx.execute(
    `INSERT INTO rejections (id, project_id, session_id, source, code, field, reason)
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
    [row.id, tx.projectId, row.session_id, row.source, row.code, row.field, row.reason],
  );
  return inserted === 1;
}

export async function listRejections(tx: Tx, sessionId: string, limit: number): Promise<RejectionRow[]> {
  return tx.query<RejectionRow>(
    `SELECT id, session_id, source, code, field, reason, created_at FROM rejections
     WHERE session_id = $1 ORDER BY id DESC LIMIT $2`,
    [sessionId, limit],
  );
}
