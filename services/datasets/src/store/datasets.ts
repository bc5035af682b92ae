import type { Tx } from '@tuneloop/runtime/pg/database';
import type { FreezeRow } from './freezes.ts';

export interface DatasetRow {
  id: string;
  name: string;
  kind: 'sft' | 'dpo';
  slot: string;
  source: 'training' | 'manual' | 'file';
  created_by: string;
  created_at: Date;
}

/** A dataset with what its lists show. */
export interface DatasetOverview extends DatasetRow {
  latest_version_id: string | null;
  versions: number;
  last_build: FreezeRow | null;
}

/** Does nothing where the id is known. */
export async function insertDataset(tx: Tx, row: Omit<DatasetRow, 'created_at'>): Promise<void> {
  await tx.execute(
    `INSERT INTO datasets (project_id, id, name, kind, slot, source, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7)
     ON CONFLICT DO NOTHING`,
    [tx.projectId, row.id, row.name, row.kind, row.slot, row.source, row.created_by],
  );
}

const OVERVIEW = `
  SELECT d.id, d.name, d.kind, d.slot, d.source, d.created_by, d.created_at,
    v.id AS latest_version_id, coalesce(v.number, 0) AS versions, to_jsonb(f) AS last_build
  FROM datasets d
  LEFT JOIN LATERAL (SELECT id, number FROM dataset_versions WHERE dataset_id = d.id ORDER BY number DESC LIMIT 1) v ON true
  LEFT JOIN LATERAL (
    SELECT id, status, code, reason, dataset_version_id, created_at, settled_at FROM freezes
    WHERE dataset_id = d.id ORDER BY created_at DESC, id DESC LIMIT 1) f ON true`;

export async function findDataset(tx: Tx, id: string): Promise<DatasetOverview | undefined> {
  return tx.one<DatasetOverview>(`${OVERVIEW} WHERE d.id = $1`, [id]);
}

/** Newest first. The cursor is the last id given. */
export async function listDatasets(
  tx: Tx,
  page: { limit: number; before: string | null; kind: string | null },
): Promise<DatasetOverview[]> {
  return tx.query<DatasetOverview>(
    `${OVERVIEW}
     WHERE ($3::text IS NULL OR d.kind = $3)
       AND ($2::uuid IS NULL OR (d.created_at, d.id) < (SELECT created_at, id FROM datasets WHERE id = $2))
     ORDER BY d.created_at DESC, d.id DESC LIMIT $1`,
    [page.limit, page.before, page.kind],
  );
}
