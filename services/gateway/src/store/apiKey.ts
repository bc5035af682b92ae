import type { Tx } from '@tuneloop/runtime/pg/database';

export type Role = 'owner' | 'engineer' | 'reviewer' | 'viewer';

export interface ApiKeyRow {
  id: string;
  name: string;
  role: Role;
  created_by: string;
  created_at: Date;
  expires_at: Date | null;
  last_used_at: Date | null;
  revoked_at: Date | null;
}

const COLUMNS = 'id, name, role, created_by, created_at, expires_at, last_used_at, revoked_at';

export interface KeyOwner {
  project_id: string;
  hash: Buffer;
  role: Role;
  expires_at: Date | null;
  revoked_at: Date | null;
}

export async function findKeyOwner(tx: Tx, id: string): Promise<KeyOwner | undefined> {
  return tx.one<KeyOwner>('SELECT * FROM find_api_key($1)', [id]);
}

export async function insertApiKey(
  tx: Tx,
  row: Pick<ApiKeyRow, 'id' | 'name' | 'role' | 'created_by' | 'expires_at'> & { hash: Buffer },
): Promise<ApiKeyRow> {
  const stored = await tx.one<ApiKeyRow>(
    `INSERT INTO api_keys (id, project_id, name, hash, role, created_by, expires_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING ${COLUMNS}`,
    [row.id, tx.projectId, row.name, row.hash, row.role, row.created_by, row.expires_at],
  );
  return stored!;
}

export async function listKeys(tx: Tx, limit: number, after: string | undefined): Promise<ApiKeyRow[]> {
  return tx.query<ApiKeyRow>(`SELECT ${COLUMNS} FROM api_keys WHERE $2::text IS NULL OR id > $2 ORDER BY id LIMIT $1`, [
    limit,
    after ?? null,
  ]);
}

export async function revokeKey(tx: Tx, id: string): Promise<ApiKeyRow | undefined> {
  return tx.one<ApiKeyRow>(
    `UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING ${COLUMNS}`,
    [id],
  );
}
