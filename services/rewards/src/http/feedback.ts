import { deleteFeedback, listFeedback } from '@tuneloop/contracts/rewards/http';
import { type Auth, hasScope } from '@tuneloop/runtime/auth/auth';
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

export function mountDeleteFeedback(app: HttpApp, ctx: RewardsContext): void {
  mountRoute(app, ctx, deleteFeedback, async ({ params, auth, tx }) => {
    const row = await retractFeedback(tx, params.id.toLowerCase(), (found) => mayRetract(auth, found));
    return feedbackOnWire(row);
  });
}

/**
 * Who may write for the project takes back anything. Others only what is theirs: what they sent in, and, for a person,
 * what is kept as said by them. The name in `user_id` is a key's own claim, so it gives a key no right.
 */
function mayRetract(auth: Auth, row: store.FeedbackRow): boolean {
  if (hasScope(auth, 'write') || row.submitted_by === auth.actor) return true;
  return auth.kind === 'user' && row.user_id === auth.subject;
}
