import type { Tx } from '@tuneloop/runtime/pg/database';

/** One who writes, refers to or deletes a blob holds this until the commit: a delete never overtakes a new reference. */
export async function lockBlob(tx: Tx, blobKey: string): Promise<void> {
  await tx.query(`SELECT pg_advisory_xact_lock(hashtextextended('ingest.blob.' || $1, 0))`, [blobKey]);
}

export async function isBlobReferred(tx: Tx, blobKey: string): Promise<boolean> {
  const row = await tx.one<{ referred: boolean }>(
    `SELECT EXISTS (SELECT 1 FROM images WHERE blob_key = $1)
         OR EXISTS (SELECT 1 FROM documents WHERE blob_key = $1) AS referred`,
    [blobKey],
  );
  return row?.referred ?? false;
}

/** At `dueAt` the blob is looked at, unless the row is gone by then. */
export async function insertBlobSweep(tx: Tx, id: string, blobKey: string, dueAt: Date): Promise<void> {
  await tx.execute(
    `INSERT INTO blob_sweeps (id, project_id, blob_key, due_at) VALUES ($1, $2, $3, $4)
     ON CONFLICT (id) DO UPDATE SET due_at = EXCLUDED.due_at`,
    [id, tx.projectId, blobKey, dueAt],
  );
}

export async function deleteBlobSweep(tx: Tx, id: string): Promise<void> {
  await tx.execute('DELETE FROM blob_sweeps WHERE id = $1', [id]);
}

export async function findBlobSweep(tx: Tx, id: string): Promise<{ blob_key: string } | undefined> {
  return tx.one<{ blob_key: string }>('SELECT blob_key FROM blob_sweeps WHERE id = $1 FOR UPDATE', [id]);
}

export async function findDueBlobSweeps(
  tx: Tx,
  at: Date,
  maxRows: number,
): Promise<{ id: string; project_id: string }[]> {
  return tx.query('SELECT id, project_id FROM due_blob_sweeps($1, $2)', [at, maxRows]);
}
