import { badRequest } from '@tuneloop/runtime/errors';
import { z } from 'zod';

const position = z.object({ at: z.iso.datetime({ offset: true }), id: z.uuid() });
const bad = () =>
  badRequest('request.cursor_invalid', 'cursor is not one of ours: take next_cursor of the page before', 'cursor');

/** A position in a newest-first list. */
export function encodePosition(row: { readonly created_at: Date; readonly id: string }): string {
  return Buffer.from(JSON.stringify({ at: row.created_at.toISOString(), id: row.id })).toString('base64url');
}

/** @throws AppError 400 */
export function decodePosition(cursor: string | undefined): { at: string; id: string } | null {
  if (cursor === undefined) return null;
  try {
    return position.parse(JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8')));
  } catch {
    throw bad();
  }
}

/** A cursor that is a row's id. @throws AppError 400 */
export function idCursor(cursor: string | undefined): string | undefined {
  if (cursor !== undefined && !z.uuid().safeParse(cursor).success) throw bad();
  return cursor;
}
