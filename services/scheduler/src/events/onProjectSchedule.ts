import { projectChanged } from '@tuneloop/contracts/gateway/events';
import { defineHandler } from '@tuneloop/runtime/inbox/handler';
import type { SchedulerContext } from '../config.ts';
import { cronProblem, nextTick } from '../domain/cron.ts';
import { findSchedule, upsertSchedule } from '../store/schedule.ts';

/** A new project gets its schedule at once; one that people have set since stays as they set it. */
export const onProjectSchedule = defineHandler({
  name: 'on_project_schedule',
  event: projectChanged,
  handle: async (tx, event, ctx: SchedulerContext) => {
    if (await findSchedule(tx)) return;
    const { cron, time_zone: timeZone, paused } = event.data.settings.schedule;
    if (cronProblem(cron, timeZone)) return;
    await upsertSchedule(tx, { cron, time_zone: timeZone, paused, next_run_at: nextTick(cron, timeZone, ctx.clock()) });
  },
});
