import { badRequest } from '@tuneloop/runtime/errors';
import { z } from 'zod';

const id = z.uuid();

/** A cursor that is the id of the last row given. @throws AppError 400 for any other text. */
export function idCursor(cursor: string | undefined): string | null {
  if (cursor === undefined) return null;
  const parsed = id.safeParse(cursor);
  if (!parsed.success) throw invalidCursor();
  return parsed.data;
}

/** Where the next page begins; null after the last. */
export function nextCursor<T>(rows: readonly T[], limit: number, cursorOf: (row: T) => string): string | null {
  const last = rows.at(-1);
  return last === undefined || rows.length < limit ? null : cursorOf(last);
}

export function invalidCursor() {
  return badRequest('request.cursor_invalid', 'cursor must be the next_cursor of an earlier page', 'cursor');
}
