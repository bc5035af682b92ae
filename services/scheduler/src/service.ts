import { projectHandler } from '@tuneloop/runtime/projects';
import { defineService } from '@tuneloop/runtime/service';
import { type SchedulerContext, schedulerConfig } from './config.ts';
import { onProjectSchedule } from './events/onProjectSchedule.ts';
import { runHandlers } from './events/onRunEvents.ts';
import { mountRetrainingRequests } from './http/retrainingRequests.ts';
import { mountRetrainingRuns } from './http/retrainingRuns.ts';
import { mountSchedule } from './http/schedule.ts';
import { Ticker } from './jobs/ticker.ts';

export const schedulerService = defineService({
  name: 'scheduler',
  migrations: new URL('../migrations/', import.meta.url),
  config: schedulerConfig,
  create: (ctx: SchedulerContext) => {
    const ticker = new Ticker(ctx);
    return {
      routes: (app) => {
        mountRetrainingRequests(app, ctx, ticker);
        mountRetrainingRuns(app, ctx);
        mountSchedule(app, ctx);
      },
      handlers: [projectHandler<SchedulerContext>(), onProjectSchedule, ...runHandlers(ticker)],
      jobs: [ticker],
    };
  },
});
