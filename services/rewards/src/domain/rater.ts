import type { FeedbackInput } from '@tuneloop/contracts/rewards/http';
import { type Auth, hasScope } from '@tuneloop/runtime/auth/auth';
import { AppError } from '@tuneloop/runtime/errors';
import { deterministicId } from '@tuneloop/runtime/ids';

export interface Rater {
  readonly userId: string | undefined;
  /** A person who can be told from others: their later rating takes the place of their earlier one. */
  readonly known: boolean;
}

export const ANONYMOUS_USER = 'anonymous';

/**
 * Who speaks. A signed-in person speaks for themselves, unless they may write for the project (imports); a key speaks
 * for whom it names.
 * @throws AppError 403 when a person names somebody else.
 */
export function raterOf(auth: Auth, named: string | undefined): Rater {
  if (auth.kind !== 'user') return { userId: named, known: isSomebody(named) };
  if (named === undefined || named === auth.subject) return { userId: auth.subject, known: true };
  if (!hasScope(auth, 'write')) {
    throw new AppError({
      code: 'rewards.feedback.other_user',
      status: 403,
      message: 'user_id names somebody else: leave it out, feedback is recorded as yours.',
      field: 'user_id',
    });
  }
  return { userId: named, known: isSomebody(named) };
}

export function isSomebody(userId: string | undefined): boolean {
  return userId !== undefined && userId !== ANONYMOUS_USER;
}

/** Kinds whose later word replaces the earlier one even without a score. */
const REPLACING = new Set<FeedbackInput['kind']>([
  'thumbs',
  'stars',
  'like',
  'ab',
  'dimensions',
  'correction',
  'score',
]);

/**
 * Key of a rating: of all feedback with one key only the latest counts. Null for what stands beside earlier feedback:
 * comments and reports without a score.
 */
export function ratingKey(
  kind: FeedbackInput['kind'],
  userId: string,
  answers: readonly string[],
  score: number | null,
): string | null {
  if (!REPLACING.has(kind) && score === null) return null;
  // A over B and B over A are the same question.
  return deterministicId('rating', kind, userId, ...answers.toSorted());
}
