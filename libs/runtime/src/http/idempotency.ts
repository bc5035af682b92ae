import { createHash } from 'node:crypto';
import { AppError, badRequest } from '../errors.ts';
import type { Tx } from '../pg/database.ts';

/** How long an answer is kept for a repeated key; `messaging_prune` removes the rows. */
export const IDEMPOTENCY_HOURS = 24;
const KEY_PATTERN = /^[\u0021-\u007e]{1,255}$/;

export interface IdempotencyKey {
  readonly key: string;
  readonly operation: string;
  /** SHA-256 of the request's parameters and body. */
  readonly requestHash: Buffer;
}

export interface StoredAnswer {
  readonly status: number;
  readonly body: unknown;
}

/** JSON with sorted keys, so that two spellings of one request hash alike. */
function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .toSorted(([a], [b]) => (a < b ? -1 : 1));
    return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(',')}}`;
  }
  return JSON.stringify(value) ?? 'null';
}

/** Reads the `Idempotency-Key` header. @throws AppError 400 for a key that is not 1 to 255 visible ASCII characters. */
export function idempotencyKey(
  header: string | string[] | undefined,
  operation: string,
  request: { readonly params: unknown; readonly query: unknown; readonly body: unknown },
): IdempotencyKey | null {
  if (header === undefined) return null;
  if (typeof header !== 'string' || !KEY_PATTERN.test(header)) {
    throw badRequest(
      'idempotency.key_invalid',
      'Idempotency-Key must be 1 to 255 visible ASCII characters',
      'Idempotency-Key',
    );
  }
  return { key: header, operation, requestHash: createHash('sha256').update(canonicalJson(request)).digest() };
}

interface IdempotencyRow {
  readonly request_hash: Buffer;
  readonly status: number | null;
  readonly response: unknown;
}

/**
 * Claims the key in the caller's transaction. Null: the key is ours and the work is to be done. Else the answer given
 * before. A second request with the same key waits in the INSERT until the first has committed (then it gets that
 * answer) or rolled back (then the key is free again).
 * @throws AppError 409 `idempotency.key_reused` when the earlier request was another one.
 */
export async function claimIdempotencyKey(tx: Tx, key: IdempotencyKey): Promise<StoredAnswer | null> {
  await tx.execute(
    `DELETE FROM idempotency WHERE project_id = $1 AND key = $2 AND operation = $3
       AND created_at < now() - make_interval(hours => $4)`,
    [tx.projectId, key.key, key.operation, IDEMPOTENCY_HOURS],
  );
  const inserted = await tx.execute(
    `INSERT INTO idempotency (project_id, key, operation, request_hash) VALUES ($1, $2, $3, $4)
     ON CONFLICT DO NOTHING`,
    [tx.projectId, key.key, key.operation, key.requestHash],
  );
  if (inserted === 1) return null;
  const row = await tx.one<IdempotencyRow>(
    'SELECT request_hash, status, response FROM idempotency WHERE project_id = $1 AND key = $2 AND operation = $3',
    [tx.projectId, key.key, key.operation],
  );
  if (!row || row.status === null) {
    throw new AppError({
      code: 'idempotency.in_progress',
      status: 503,
      message: 'A request with this Idempotency-Key has not finished. Try again in a moment.',
      retry: true,
    });
  }
  if (!row.request_hash.equals(key.requestHash)) {
    throw new AppError({
      code: 'idempotency.key_reused',
      status: 409,
      message: 'This Idempotency-Key was used for another request. Use a new key for a new request.',
      field: 'Idempotency-Key',
    });
  }
  return { status: row.status, body: row.response ?? undefined };
}

/** Keeps the answer beside the effects that it tells of. */
export async function storeIdempotentAnswer(tx: Tx, key: IdempotencyKey, answer: StoredAnswer): Promise<void> {
  await tx.execute(
    'UPDATE idempotency SET status = $4, response = $5::jsonb WHERE project_id = $1 AND key = $2 AND operation = $3',
    [
      tx.projectId,
      key.key,
      key.operation,
      answer.status,
      answer.body === undefined ? null : JSON.stringify(answer.body),
    ],
  );
}
