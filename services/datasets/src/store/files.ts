import type { Tx } from '@tuneloop/runtime/pg/database';

export interface FileRow {
  id: string;
  filename: string;
  purpose: string;
  bytes: number;
  sha256: string;
  blob_key: string;
  created_by: string;
  created_at: Date;
}

/** Uploads and deletions of one content wait for each other: a blob is not removed under a new file's feet. */
export async function lockBlob(tx: Tx, blobKey: string): Promise<void> {
  await tx.execute('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`datasets.blob:${blobKey}`]);
}

export async function insertFile(tx: Tx, row: Omit<FileRow, 'created_at'>): Promise<FileRow> {
  const stored = await tx.one<FileRow>(
    `INSERT INTO files (project_id, id, filename, purpose, bytes, sha256, blob_key, created_by)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING *`,
    [tx.projectId, row.id, row.filename, row.purpose, row.bytes, row.sha256, row.blob_key, row.created_by],
  );
  return stored!;
}

export async function findFileById(tx: Tx, id: string): Promise<FileRow | undefined> {
  return tx.one<FileRow>('SELECT * FROM files WHERE id = $1', [id]);
}

export interface FilePage {
  readonly limit: number;
  readonly after: string | null;
  readonly purpose: string | null;
  readonly order: 'asc' | 'desc';
}

/** Ids grow with time, so their order is the order of uploads. */
export async function listFiles(tx: Tx, page: FilePage): Promise<FileRow[]> {
  const [compare, direction] = page.order === 'asc' ? ['>', 'ASC'] : ['<', 'DESC'];
  return tx.query<FileRow>(
    `SELECT * FROM files
     WHERE ($2::uuid IS NULL OR id ${compare} $2) AND ($3::text IS NULL OR purpose = $3)
     ORDER BY id ${direction} LIMIT $1`,
    [page.limit, page.after, page.purpose],
  );
}

export async function deleteFileById(tx: Tx, id: string): Promise<FileRow | undefined> {
  return tx.one<FileRow>('DELETE FROM files WHERE id = $1 RETURNING *', [id]);
}

export async function isBlobUsed(tx: Tx, blobKey: string): Promise<boolean> {
  return (await tx.one('SELECT 1 FROM files WHERE blob_key = $1', [blobKey])) !== undefined;
}
