import {
  cancelRetrainingRequest,
  createRetrainingRequest,
  getRetrainingRequest,
  listRetrainingRequests,
} from '@tuneloop/contracts/scheduler/http';
import { AppError, notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { newId } from '@tuneloop/runtime/ids';
import type { SchedulerContext } from '../config.ts';
import type { Ticker } from '../jobs/ticker.ts';
import { findRequestById, insertRequest, listRequests, lockPendingRequest, markRequest } from '../store/retraining.ts';
import { requestBody } from './mapping.ts';

export function mountRetrainingRequests(app: HttpApp, ctx: SchedulerContext, ticker: Ticker): void {
  mountRoute(app, ctx, createRetrainingRequest, async ({ body, auth, tx }) => {
    const row = await insertRequest(tx, { id: newId(), requested_by: auth.actor, source: 'manual', spec: body });
    tx.afterCommit(() => ticker.wake());
    return requestBody(row);
  });

  mountRoute(app, ctx, listRetrainingRequests, async ({ query, tx }) => {
    const rows = await listRequests(tx, query.limit, query.cursor);
    return { data: rows.map(requestBody), next_cursor: rows.length === query.limit ? rows.at(-1)!.id : null };
  });

  mountRoute(app, ctx, getRetrainingRequest, async ({ params, tx }) => {
    const row = await findRequestById(tx, params.id);
    if (!row) throw unknownRequest(params.id);
    return requestBody(row);
  });

  mountRoute(app, ctx, cancelRetrainingRequest, async ({ params, tx }) => {
    const pending = await lockPendingRequest(tx, params.id);
    if (pending) return requestBody(await markRequest(tx, params.id, 'cancelled', null, ctx.clock()));
    const row = await findRequestById(tx, params.id);
    if (!row) throw unknownRequest(params.id);
    throw new AppError({
      code: 'scheduler.request.not_pending',
      status: 409,
      message: `The request is ${row.status}; only a pending one can be cancelled. Cancel its training job instead.`,
    });
  });
}

function unknownRequest(id: string): AppError {
  return notFound('scheduler.request.not_found', `There is no retraining request ${id}.`);
}
