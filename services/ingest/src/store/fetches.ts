import type { intakeDocument, intakeImage } from '@tuneloop/contracts/ingest/events';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { z } from 'zod';

/** Category and user come with the event's defaults; a session's pictures have the session's. */
export type ImageSubmission = Omit<z.output<typeof intakeImage>, 'category' | 'user_id'> &
  Partial<Pick<z.output<typeof intakeImage>, 'category' | 'user_id'>>;
export type DocumentSubmission = z.output<typeof intakeDocument>;

interface FetchBase {
  readonly id: string;
  /** `intake`: submitted by event; `session`: named by URL when a session was opened. */
  readonly origin: 'intake' | 'session';
  readonly session_id: string | null;
  readonly actor: string;
  readonly attempts: number;
}
export type FetchRow =
  | (FetchBase & { readonly kind: 'image'; readonly item: ImageSubmission })
  | (FetchBase & { readonly kind: 'document'; readonly item: DocumentSubmission });

type WithoutAttempts<T> = T extends unknown ? Omit<T, 'attempts'> : never;
export type NewFetch = WithoutAttempts<FetchRow>;

/** An item that failed before and is sent again starts anew. */
export async function insertFetches(tx: Tx, rows: readonly NewFetch[]): Promise<void> {
  await tx.execute(
    `INSERT INTO intake_fetches (id, project_id, kind, origin, session_id, item, actor)
     SELECT id, $1, kind, origin, session_id, item, actor FROM jsonb_to_recordset($2::jsonb)
       AS x(id uuid, kind text, origin text, session_id uuid, item jsonb, actor text)
     ON CONFLICT (id) DO UPDATE SET item = EXCLUDED.item, session_id = EXCLUDED.session_id, status = 'pending',
       attempts = 0, last_error = NULL, due_at = now(), settled_at = NULL
     WHERE intake_fetches.status = 'failed'`,
    [tx.projectId, JSON.stringify(rows)],
  );
}

export async function findPendingFetch(tx: Tx, id: string): Promise<FetchRow | undefined> {
  return tx.one<FetchRow>(
    `SELECT id, kind, origin, session_id, item, actor, attempts FROM intake_fetches
     WHERE id = $1 AND status = 'pending'`,
    [id],
  );
}

/** Ends a fetch. Nothing of an inline file stays behind. */
export async function settleFetch(tx: Tx, id: string, status: 'done' | 'failed', error: string | null): Promise<void> {
  await tx.execute(
    `UPDATE intake_fetches SET status = $2, last_error = $3, settled_at = now(), lease_owner = NULL, lease_until = NULL,
       item = item - 'inline' WHERE id = $1`,
    [id, status, error],
  );
}

export async function postponeFetch(tx: Tx, id: string, waitMs: number, error: string): Promise<void> {
  await tx.execute(
    `UPDATE intake_fetches SET due_at = now() + make_interval(secs => $2::float8 / 1000), last_error = $3,
       lease_owner = NULL, lease_until = NULL WHERE id = $1`,
    [id, waitMs, error],
  );
}

/** Gives a lease back before it ends; the attempt does not count. */
export async function releaseFetch(tx: Tx, id: string, epoch: number): Promise<void> {
  await tx.execute(
    `UPDATE intake_fetches SET lease_owner = NULL, lease_until = NULL, attempts = greatest(attempts - 1, 0)
     WHERE id = $1 AND lease_epoch = $2 AND status = 'pending'`,
    [id, epoch],
  );
}

export async function deleteFetch(tx: Tx, id: string): Promise<void> {
  await tx.execute('DELETE FROM intake_fetches WHERE id = $1', [id]);
}

export async function pruneFetches(tx: Tx, keepDays: number, maxRows: number): Promise<void> {
  await tx.query('SELECT prune_intake_fetches(make_interval(days => $1), $2)', [keepDays, maxRows]);
}
