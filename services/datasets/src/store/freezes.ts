import type { DatasetSpec } from '@tuneloop/contracts/datasets/events';
import type { Tx } from '@tuneloop/runtime/pg/database';

/** How a freeze stands, as people see it. */
export interface FreezeRow {
  id: string;
  status: 'pending' | 'ready' | 'insufficient' | 'failed';
  code: string | null;
  reason: string | null;
  dataset_version_id: string | null;
  created_at: Date | string;
  settled_at: Date | string | null;
}

/** What the work needs. */
export interface FreezeTask {
  id: string;
  dataset_id: string;
  kind: string;
  spec: DatasetSpec;
  announced: boolean;
  correlation_id: string | null;
  causation_id: string | null;
  requested_by: string;
  lease_epoch: number;
}

export type NewFreeze = Omit<FreezeTask, 'lease_epoch'>;

/** Does nothing where the id is known. */
export async function insertFreeze(tx: Tx, row: NewFreeze): Promise<FreezeRow> {
  await tx.execute(
    `INSERT INTO freezes (project_id, id, dataset_id, kind, spec, announced, correlation_id, causation_id, requested_by)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`,
    [
      tx.projectId,
      row.id,
      row.dataset_id,
      row.kind,
      JSON.stringify(row.spec),
      row.announced,
      row.correlation_id,
      row.causation_id,
      row.requested_by,
    ],
  );
  const stored = await tx.one<FreezeRow>(
    'SELECT id, status, code, reason, dataset_version_id, created_at, settled_at FROM freezes WHERE id = $1',
    [row.id],
  );
  return stored!;
}

export async function findFreezeTask(tx: Tx, id: string): Promise<FreezeTask | undefined> {
  return tx.one<FreezeTask>(
    `SELECT id, dataset_id, kind, spec, announced, correlation_id, causation_id, requested_by, lease_epoch
     FROM freezes WHERE id = $1 AND status = 'pending'`,
    [id],
  );
}

export interface FreezeOutcome {
  readonly status: 'ready' | 'insufficient' | 'failed';
  readonly code?: string;
  readonly reason?: string;
  readonly versionId?: string;
}

export async function settleFreeze(tx: Tx, id: string, outcome: FreezeOutcome): Promise<void> {
  await tx.execute(
    `UPDATE freezes SET status = $2, code = $3, reason = $4, dataset_version_id = $5, settled_at = now(),
       lease_owner = NULL, lease_until = NULL
     WHERE id = $1`,
    [id, outcome.status, outcome.code ?? null, outcome.reason ?? null, outcome.versionId ?? null],
  );
}

/** Gives the lease back; the work is due again after the wait. */
export async function postponeFreeze(tx: Tx, id: string, epoch: number, waitMs: number): Promise<void> {
  await tx.execute(
    `UPDATE freezes SET lease_owner = NULL, lease_until = NULL, due_at = now() + make_interval(secs => $3::float8 / 1000)
     WHERE id = $1 AND lease_epoch = $2 AND status = 'pending'`,
    [id, epoch, waitMs],
  );
}
