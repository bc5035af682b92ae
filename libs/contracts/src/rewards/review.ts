import { z } from 'zod';
import { idParams, uuid } from '../common.ts';
import { defineRoute } from '../route.ts';

/** Most items that a reviewer's page can hold back: shown, or judged and not sent yet. */
export const MAX_REVIEW_EXCLUDED = 100;
/** Counting what is left stops here. */
export const MAX_REVIEW_REMAINING = 10_000;

/**
 * One question to one reviewer: which of two answers to a prompt is better. The answers come without their origin, in
 * an order of this reviewer's own that stays the same when asked again.
 */
export const reviewItem = z.object({
  id: uuid,
  prompt: z.string(),
  image_id: uuid.nullable(),
  /** Where the picture is, for the same credentials. */
  image_url: z.string().nullable(),
  category: z.string().nullable(),
  /** `a` is the `response_id`, `b` the `other_response_id` of feedback of kind `ab`. */
  answers: z.tuple([
    z.object({ key: z.literal('a'), response_id: uuid, text: z.string() }),
    z.object({ key: z.literal('b'), response_id: uuid, text: z.string() }),
  ]),
  guideline: z.string(),
  /** Questions left for this reviewer, this one among them; at most `MAX_REVIEW_REMAINING`. */
  remaining: z.number().int(),
  /** The `user_id` to send feedback with, by which it is known that this reviewer has judged. */
  reviewer: z.string(),
});
export type ReviewItem = z.output<typeof reviewItem>;

export const getNextReview = defineRoute({
  service: 'rewards',
  operationId: 'get_next_review',
  method: 'GET',
  path: '/api/v1/review/next',
  summary: 'The next pair of answers for you to compare: none that you have judged or skipped, least judged first.',
  scope: 'feedback',
  tag: 'Review',
  query: z.object({
    /** Items to leave out for now: the one on the screen, those judged and not sent yet. */
    exclude: z.array(uuid).max(MAX_REVIEW_EXCLUDED).optional(),
  }),
  response: z.object({ item: reviewItem.nullable() }),
});

export const skipReview = defineRoute({
  service: 'rewards',
  operationId: 'skip_review',
  method: 'POST',
  path: '/api/v1/review/skip',
  summary: 'Leaves an item to others: you are not asked about it again.',
  scope: 'feedback',
  tag: 'Review',
  body: z.object({ id: uuid }),
  response: z.object({ id: uuid, skipped: z.literal(true) }),
});

export const unskipReview = defineRoute({
  service: 'rewards',
  operationId: 'unskip_review',
  method: 'DELETE',
  path: '/api/v1/review/skip/{id}',
  summary: 'Takes a skip back.',
  scope: 'feedback',
  tag: 'Review',
  params: idParams,
  response: z.object({ id: uuid, skipped: z.literal(false) }),
});
