import type { FeedbackInput } from '@tuneloop/contracts/rewards/http';
import { AppError, badRequest } from '@tuneloop/runtime/errors';

/** A correction travels in an event whole; this leaves room for the rest of it. */
const MAX_CORRECTION_BYTES = 200 * 1024;
const EARLIEST = Date.UTC(1970, 0, 1);

/**
 * When feedback was said: what it says itself, but never later than now, so that a wrong clock cannot make a rating
 * that no later one replaces.
 */
export function saidAt(createdAt: string | undefined, now: Date): Date {
  if (createdAt === undefined) return now;
  const said = new Date(createdAt);
  if (!(said.getTime() >= EARLIEST)) {
    throw badRequest('rewards.feedback.too_early', 'created_at must be a time since 1970', 'created_at');
  }
  return said > now ? now : said;
}

/** @throws AppError 400 for a correction that no event could carry. */
export function checkSize(input: FeedbackInput): void {
  if (input.kind !== 'correction') return;
  if (Buffer.byteLength(JSON.stringify(input.correction)) <= MAX_CORRECTION_BYTES) return;
  throw badRequest(
    'rewards.correction.too_large',
    `correction must have at most ${MAX_CORRECTION_BYTES / 1024} KiB: send the answer alone`,
    'correction',
  );
}

export function responseNotFound(field: string): AppError {
  return new AppError({
    code: 'rewards.response.not_found',
    status: 404,
    message: `${field} names no response of this project: record the response first.`,
    field,
  });
}

interface Said {
  readonly id: string;
  readonly ratingKey: string | null;
  readonly saidAt: Date;
}

interface Latest {
  readonly rating_key: string;
  readonly id: string;
  readonly created_at: Date;
  readonly active: boolean;
}

export interface Succession {
  /** Feedback of this batch that came too late to count, with what counts instead. */
  readonly supersededBy: ReadonlyMap<string, string>;
  /** Feedback of this batch that takes the place of stored feedback, with what it replaces. */
  readonly supersedes: ReadonlyMap<string, string>;
}

/**
 * Which of several ratings with one key counts: the one said last, whatever the order of arrival; one that was taken
 * back does not bring an earlier one back.
 */
export function succeed(said: readonly Said[], stored: readonly Latest[]): Succession {
  const supersededBy = new Map<string, string>();
  const supersedes = new Map<string, string>();
  const latest = new Map(stored.map((row) => [row.rating_key, row]));
  const rated = said.filter((item) => item.ratingKey !== null);
  for (const [key, items] of Map.groupBy(rated, (item) => item.ratingKey!)) {
    const before = latest.get(key);
    const last = items.reduce((a, b) => (isLater(b.saidAt, b.id, a.saidAt, a.id) ? b : a));
    const counts =
      before !== undefined && isLater(before.created_at, before.id, last.saidAt, last.id) ? before.id : last.id;
    for (const item of items) if (item.id !== counts) supersededBy.set(item.id, counts);
    if (before?.active && counts !== before.id) supersedes.set(last.id, before.id);
  }
  return { supersededBy, supersedes };
}

function isLater(atA: Date, idA: string, atB: Date, idB: string): boolean {
  const difference = atA.getTime() - atB.getTime();
  return difference > 0 || (difference === 0 && idA > idB);
}
