import { deleteFeedback, listFeedback } from '@tuneloop/contracts/rewards/http';
import { hasScope } from '@tuneloop/runtime/auth/auth';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { RewardsContext } from '../config.ts';
import * as store from '../store/feedback.ts';
import { feedbackOnWire } from '../usecases/recordFeedback.ts';
import { retractFeedback } from '../usecases/retractFeedback.ts';
import { idCursor, nextCursor } from './cursor.ts';

export function mountListFeedback(app: HttpApp, ctx: RewardsContext): void {
  mountRoute(app, ctx, listFeedback, async ({ query, tx }) => {
    const rows = await store.listFeedback(tx, query, query.limit, idCursor(query.cursor));
    return { data: rows.map(feedbackOnWire), next_cursor: nextCursor(rows, query.limit, (row) => row.id) };
  });
}

/** People without the right to write for the project take back their own feedback only. */
export function mountDeleteFeedback(app: HttpApp, ctx: RewardsContext): void {
  mountRoute(app, ctx, deleteFeedback, async ({ params, auth, tx }) => {
    const onlyOf = auth.kind === 'user' && !hasScope(auth, 'write') ? auth.subject : null;
    return feedbackOnWire(await retractFeedback(tx, params.id.toLowerCase(), onlyOf));
  });
}
