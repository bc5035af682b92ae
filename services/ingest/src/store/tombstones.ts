import type { Tx } from '@tuneloop/runtime/pg/database';

/** `intake`: the sender's item, by its intake key. */
export type ItemKind = 'image' | 'document' | 'intake';

export async function insertTombstone(tx: Tx, kind: ItemKind, id: string): Promise<void> {
  await tx.execute('INSERT INTO tombstones (project_id, kind, id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING', [
    tx.projectId,
    kind,
    id,
  ]);
}

export async function isErased(tx: Tx, kind: ItemKind, id: string): Promise<boolean> {
  const row = await tx.one('SELECT 1 FROM tombstones WHERE project_id = $1 AND kind = $2 AND id = $3', [
    tx.projectId,
    kind,
    id,
  ]);
  return row !== undefined;
}

export async function findTombstone(
  tx: Tx,
  id: string,
): Promise<{ kind: 'image' | 'document'; erased_at: Date } | undefined> {
  return tx.one(`SELECT kind, erased_at FROM tombstones WHERE id = $1 AND kind IN ('image', 'document')`, [id]);
}
