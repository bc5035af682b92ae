import { badRequest } from '@tuneloop/runtime/errors';
import { z } from 'zod';

/** A cursor is the id of the last row of the page before. @throws AppError 400 */
export function idCursor(cursor: string | undefined): string | undefined {
  if (cursor === undefined || z.uuid().safeParse(cursor).success) return cursor;
  throw badRequest(
    'request.cursor_invalid',
    'cursor is not one of ours: take next_cursor of the page before',
    'cursor',
  );
}

/** Null when this page is the last for certain. */
export function nextCursor(rows: readonly { readonly id: string }[], limit: number): string | null {
  return rows.length === limit ? (rows.at(-1)?.id ?? null) : null;
}
