import { newId } from '@tuneloop/runtime/ids';
import type { Tx } from '@tuneloop/runtime/pg/database';

export interface AuditRow {
  id: string;
  at: Date;
  actor: string;
  action: string;
  subject: string;
  detail: Record<string, never>;
}

/** Notes a change in the transaction that makes it. `detail` holds no secret. */
export async function audit(
  tx: Tx,
  entry: { actor: string; action: string; subject: string; detail?: Record<string, unknown> },
): Promise<void> {
  await tx.execute(
    'INSERT INTO audit_log (id, project_id, actor, action, subject, detail) VALUES ($1, $2, $3, $4, $5, $6)',
    [newId(), tx.projectId, entry.actor, entry.action, entry.subject, JSON.stringify(entry.detail ?? {})],
  );
}

export async function listAudit(tx: Tx, limit: number, before: string | undefined): Promise<AuditRow[]> {
  return tx.query<AuditRow>(
    `SELECT id, at, actor, action, subject, detail FROM audit_log
     WHERE $2::uuid IS NULL OR id < $2::uuid ORDER BY id DESC LIMIT $1`,
    [limit, before ?? null],
  );
}
