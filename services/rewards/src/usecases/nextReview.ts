import { MAX_REVIEW_REMAINING, type ReviewItem } from '@tuneloop/contracts/rewards/review';
import type { Callers } from '@tuneloop/runtime/callers';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { projectSettings } from '@tuneloop/runtime/projects';
import { DEFAULT_GUIDELINE, drawPair } from '../domain/review.ts';
import { findNextReview, listAnswersToCompare, lockReviewItem, retireReviewItem } from '../store/review.ts';

/** The item that was next has lost its answers and is put aside: ask again, in another transaction. */
export const STALE = Symbol('stale');

/** What a reviewer is asked next; null when nothing is left. */
export async function nextReview(
  tx: Tx,
  reviewer: string,
  excluded: readonly string[],
  owners: { readonly callers: Callers },
): Promise<ReviewItem | null | typeof STALE> {
  const next = await findNextReview(tx, reviewer, excluded, MAX_REVIEW_REMAINING);
  if (!next) return null;
  const pair = drawPair(await listAnswersToCompare(tx, next.prompt_key), reviewer, next.prompt_key);
  if (!pair) {
    await putAside(tx, next.prompt_key);
    return STALE;
  }
  const [a, b] = pair;
  const { feedback } = await projectSettings(tx, owners);
  return {
    id: next.prompt_key,
    prompt: a.prompt,
    image_id: next.image_id,
    image_url: next.image_id === null ? null : `/api/v1/images/${next.image_id}/content`,
    category: next.category,
    answers: [
      { key: 'a', response_id: a.id, text: a.text },
      { key: 'b', response_id: b.id, text: b.text },
    ],
    guideline: feedback?.guideline ?? DEFAULT_GUIDELINE,
    remaining: next.remaining,
    reviewer,
  };
}

async function putAside(tx: Tx, promptKey: string): Promise<void> {
  await lockReviewItem(tx, promptKey);
  // Read again: an answer may have come in before the lock.
  const answers = await listAnswersToCompare(tx, promptKey);
  if (drawPair(answers, '', promptKey) === null) await retireReviewItem(tx, promptKey, answers[0]?.text ?? '');
}
