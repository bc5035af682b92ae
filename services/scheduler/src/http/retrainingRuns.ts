import { getRetrainingRun, listRetrainingRuns } from '@tuneloop/contracts/scheduler/http';
import { notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { SchedulerContext } from '../config.ts';
import { findRunById, listRuns } from '../store/retraining.ts';

export function mountRetrainingRuns(app: HttpApp, ctx: SchedulerContext): void {
  mountRoute(app, ctx, listRetrainingRuns, async ({ query, tx }) => {
    const rows = await listRuns(tx, query.limit, query.cursor);
    return { data: rows, next_cursor: rows.length === query.limit ? rows.at(-1)!.id : null };
  });

  mountRoute(app, ctx, getRetrainingRun, async ({ params, tx }) => {
    const row = await findRunById(tx, params.id);
    if (!row) throw notFound('scheduler.run.not_found', `There is no retraining run ${params.id}.`);
    return row;
  });
}
