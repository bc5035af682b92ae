import type { Tx } from '@tuneloop/runtime/pg/database';

export interface SessionRow {
  readonly id: string;
  readonly name: string | null;
  readonly url: string | null;
  readonly category: string | null;
  readonly user_id: string | null;
  readonly licence: string | null;
  readonly consent: string | null;
  readonly generate: boolean | null;
  readonly metadata: Record<string, unknown>;
  readonly created_at: Date;
}

const COLUMNS = 'id, name, url, category, user_id, licence, consent, generate, metadata, created_at';

export async function insertSession(tx: Tx, row: Omit<SessionRow, 'created_at'>): Promise<SessionRow> {
  const inserted = await tx.one<SessionRow>(
    `INSERT INTO sessions (project_id, id, name, url, category, user_id, licence, consent, generate, metadata)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING ${COLUMNS}`,
    [
      tx.projectId,
      row.id,
      row.name,
      row.url,
      row.category,
      row.user_id,
      row.licence,
      row.consent,
      row.generate,
      JSON.stringify(row.metadata),
    ],
  );
  if (!inserted) throw new Error('INSERT … RETURNING gave no row');
  return inserted;
}

export async function findSessionById(tx: Tx, id: string): Promise<SessionRow | undefined> {
  return tx.one<SessionRow>(`SELECT ${COLUMNS} FROM sessions WHERE id = $1`, [id]);
}

export async function listSessions(tx: Tx, before: string | undefined, limit: number): Promise<SessionRow[]> {
  return tx.query<SessionRow>(
    `SELECT ${COLUMNS} FROM sessions WHERE project_id = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3`,
    [tx.projectId, before ?? null, limit],
  );
}

export interface SessionCounts {
  readonly session_id: string;
  readonly processed: number;
  readonly failed: number;
  readonly pending: number;
  readonly duplicates: number;
  readonly responses_created: number;
  readonly ready_for_training: number;
}

export async function countSessions(tx: Tx, sessionIds: readonly string[]): Promise<Map<string, SessionCounts>> {
  const rows = await tx.query<SessionCounts>(
    `SELECT s.id AS session_id, i.n + d.n AS processed, r.n AS failed, f.n AS pending, i.duplicates,
       p.n AS responses_created, p.rated AS ready_for_training
     FROM unnest($1::uuid[]) AS s(id)
     CROSS JOIN LATERAL (SELECT count(*) AS n, count(duplicate_of) AS duplicates FROM images
                         WHERE session_id = s.id) i
     CROSS JOIN LATERAL (SELECT count(*) AS n FROM documents WHERE session_id = s.id) d
     CROSS JOIN LATERAL (SELECT count(*) AS n FROM rejections WHERE session_id = s.id) r
     CROSS JOIN LATERAL (SELECT count(*) AS n FROM intake_fetches
                         WHERE session_id = s.id AND status = 'pending') f
     CROSS JOIN LATERAL (SELECT count(*) AS n, count(*) FILTER (WHERE EXISTS (
                           SELECT 1 FROM response_rewards w
                           WHERE w.response_id = q.response_id AND NOT w.retracted)) AS rated
                         FROM session_responses q WHERE q.session_id = s.id AND NOT q.deleted) p`,
    [sessionIds],
  );
  return new Map(rows.map((row) => [row.session_id, row]));
}
