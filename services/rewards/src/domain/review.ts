import type { Auth } from '@tuneloop/runtime/auth/auth';
import { deterministicId } from '@tuneloop/runtime/ids';

export const DEFAULT_GUIDELINE =
  'Choose the answer you would rather read. It should fit the picture and the question, say nothing that is not so, ' +
  'and be easy to read. Small differences count; when there is none, say so.';

export interface ReviewAnswer {
  readonly id: string;
  readonly prompt: string;
  readonly text: string;
}

/** Whose judgements count as one reviewer's: a person, or whoever holds a key (an invitation). */
export function reviewerOf(auth: Pick<Auth, 'kind' | 'subject' | 'actor'>): string {
  return auth.kind === 'user' ? auth.subject : auth.actor;
}

/**
 * The two answers that a reviewer compares, in the order shown; null when there are not two that differ. Pair and order
 * are drawn by reviewer and item: the same when asked again, and no reader of one can tell another's.
 */
export function drawPair(
  answers: readonly ReviewAnswer[],
  reviewer: string,
  itemId: string,
): readonly [ReviewAnswer, ReviewAnswer] | null {
  const drawn = answers
    .map((answer) => ({ answer, draw: deterministicId('review', reviewer, itemId, answer.id) }))
    .toSorted((x, y) => (x.draw < y.draw ? -1 : 1))
    .map(({ answer }) => answer);
  const [a] = drawn;
  const b = drawn.find((answer) => answer.text.trim() !== a?.text.trim());
  return a && b ? [a, b] : null;
}
