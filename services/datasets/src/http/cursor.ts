import { badRequest } from '@tuneloop/runtime/errors';
import { z } from 'zod';
import { SPLIT_ORDER, type Split } from '../domain/splits.ts';

const id = z.uuid();
const MAX_INT = 2_147_483_647;

/** A cursor that is the id of the last row given. @throws AppError 400 for any other text. */
export function idCursor(cursor: string | undefined): string | null {
  if (cursor === undefined) return null;
  const parsed = id.safeParse(cursor);
  if (!parsed.success) throw invalidCursor();
  return parsed.data;
}

/** A cursor that is the number of the last version given. */
export function numberCursor(cursor: string | undefined): number | null {
  if (cursor === undefined) return null;
  if (!/^\d{1,9}$/.test(cursor)) throw invalidCursor();
  return Number(cursor);
}

/** A cursor `<split>.<ordinal>` of the last example given. */
export function exampleCursor(cursor: string | undefined): { split: Split; ordinal: number } | null {
  if (cursor === undefined) return null;
  const [name, ordinal] = cursor.split('.');
  const split = SPLIT_ORDER.find((item) => item === name);
  if (split === undefined || !/^\d{1,10}$/.test(ordinal ?? '') || Number(ordinal) > MAX_INT) throw invalidCursor();
  return { split, ordinal: Number(ordinal) };
}

export function invalidCursor() {
  return badRequest('request.cursor_invalid', 'cursor must be the next_cursor of an earlier page', 'cursor');
}
