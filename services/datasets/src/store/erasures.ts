import type { touchedVersion } from '@tuneloop/contracts/datasets/internal';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { z } from 'zod';

/** Takes every example made from an item out of every version, and notes which those were. */
export async function eraseVersionRows(tx: Tx, kind: 'image' | 'document', id: string): Promise<void> {
  await tx.execute(
    `INSERT INTO version_erasures (project_id, item_id, version_id, kind, examples)
     SELECT $1, $2, version_id, $3, examples FROM erase_version_rows($3, $2)
     ON CONFLICT (project_id, item_id, version_id) DO UPDATE SET examples = version_erasures.examples + EXCLUDED.examples`,
    [tx.projectId, id, kind],
  );
}

export async function findTouchedVersions(tx: Tx, itemId: string): Promise<z.output<typeof touchedVersion>[]> {
  return tx.query(
    `SELECT v.id, v.dataset_id, d.name AS dataset_name, v.number, v.kind, v.content_hash, e.examples
     FROM version_erasures e JOIN dataset_versions v ON v.id = e.version_id JOIN datasets d ON d.id = v.dataset_id
     WHERE e.item_id = $1 ORDER BY v.created_at, v.id`,
    [itemId],
  );
}
