import { imageRejected } from '@tuneloop/contracts/ingest/events';
import type { AppError } from '@tuneloop/runtime/errors';
import { emit } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { insertRejection } from '../store/rejections.ts';
import { findSessionById } from '../store/sessions.ts';

const MAX_SOURCE_CHARS = 1_000;

export interface Rejection {
  /** One per refused item, so that a second telling is not counted. */
  readonly id: string;
  readonly kind: 'image' | 'document';
  /** Where the item came from: a file name, a URL, a sender's source and id. */
  readonly source: string;
  readonly sessionId: string | null;
  readonly error: AppError;
}

/** Counts a refused item to its session and tells of it. */
export async function recordRejection(tx: Tx, rejection: Rejection): Promise<void> {
  const { id, kind, error } = rejection;
  const source = rejection.source.slice(0, MAX_SOURCE_CHARS);
  const session = rejection.sessionId === null ? undefined : await findSessionById(tx, rejection.sessionId);
  const sessionId = session?.id ?? null;
  const reason = error.message;
  const { code, field = null } = error;
  const fresh = await insertRejection(tx, { id, session_id: sessionId, source, code, field, reason });
  if (fresh && kind === 'image') {
    await emit(tx, imageRejected, { subject: id, data: { source, session_id: sessionId, code, reason } });
  }
}
