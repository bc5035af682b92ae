import { getNextReview, skipReview, unskipReview } from '@tuneloop/contracts/rewards/review';
import { AppError, notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { RewardsContext } from '../config.ts';
import { reviewerOf } from '../domain/review.ts';
import { deleteReviewSkip, insertReviewSkip } from '../store/review.ts';
import { nextReview, STALE } from '../usecases/nextReview.ts';

/** Items put aside by one request at most, each in a transaction of its own. */
const MAX_STALE_ITEMS = 50;

export function mountReview(app: HttpApp, ctx: RewardsContext): void {
  mountRoute(
    app,
    ctx,
    getNextReview,
    async ({ query, auth, tenant }) => {
      const reviewer = reviewerOf(auth);
      for (let tries = 0; tries < MAX_STALE_ITEMS; tries++) {
        const item = await tenant((tx) => nextReview(tx, reviewer, query.exclude ?? [], ctx));
        if (item !== STALE) return { item };
      }
      throw new AppError({
        code: 'rewards.review.busy',
        status: 503,
        message: 'Many answers have been removed; the questions about them are being cleared. Try again in a moment.',
        retry: true,
      });
    },
    { transaction: false },
  );

  mountRoute(app, ctx, skipReview, async ({ body, auth, tx }) => {
    const id = body.id.toLowerCase();
    const known = await insertReviewSkip(tx, reviewerOf(auth), id);
    if (!known) throw notFound('rewards.review.item_not_found', `There is no review item ${id}.`);
    return { id, skipped: true };
  });

  mountRoute(app, ctx, unskipReview, async ({ params, auth, tx }) => {
    const id = params.id.toLowerCase();
    await deleteReviewSkip(tx, reviewerOf(auth), id);
    return { id, skipped: false };
  });
}
