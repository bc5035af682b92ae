import { getSchedule, updateSchedule } from '@tuneloop/contracts/scheduler/http';
import { badRequest } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { projectSettings } from '@tuneloop/runtime/projects';
import type { SchedulerContext } from '../config.ts';
import { cronProblem, nextTick } from '../domain/cron.ts';
import { findSchedule, type ScheduleRow, upsertSchedule } from '../store/schedule.ts';
import { scheduleBody } from './mapping.ts';

export function mountSchedule(app: HttpApp, ctx: SchedulerContext): void {
  mountRoute(app, ctx, getSchedule, async ({ tx }) => scheduleBody(await currentSchedule(tx, ctx)));

  mountRoute(app, ctx, updateSchedule, async ({ body, tx }) => {
    const problem = cronProblem(body.cron, body.time_zone);
    if (problem) throw badRequest('scheduler.schedule.invalid', problem.message, problem.field);
    const next = nextTick(body.cron, body.time_zone, ctx.clock());
    return scheduleBody(await upsertSchedule(tx, { ...body, next_run_at: next }));
  });
}

/** The stored schedule, or the project's default one, stored now. */
async function currentSchedule(tx: Tx, ctx: SchedulerContext): Promise<ScheduleRow> {
  const stored = await findSchedule(tx);
  if (stored) return stored;
  const { schedule } = await projectSettings(tx, ctx);
  return upsertSchedule(tx, { ...schedule, next_run_at: nextTick(schedule.cron, schedule.time_zone, ctx.clock()) });
}
