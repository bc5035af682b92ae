import { projectHandler } from '@tuneloop/runtime/projects';
import { defineService } from '@tuneloop/runtime/service';
import { type RewardsContext, rewardsConfig } from './config.ts';
import { onFeedbackSubmitted } from './events/intakeFeedback.ts';
import { onCheckpointCreated, onDeploymentChanged, onEvaluationCompleted } from './events/onCheckpointEvents.ts';
import { onResponseCreated, onResponseDeleted, onResponseUpdated } from './events/onResponseEvents.ts';
import { mountCreateFeedback, mountCreateFeedbackBatch } from './http/createFeedback.ts';
import { mountDeleteFeedback, mountListFeedback } from './http/feedback.ts';
import { mountJudge } from './http/judge.ts';
import { mountReview } from './http/review.ts';
import { mountListPreferences, mountListRewards, mountSnapshots } from './http/rewards.ts';
import { mountRftRewards } from './http/rftRewards.ts';
import { mountStatistics } from './http/statistics.ts';

export const rewardsService = defineService({
  name: 'rewards',
  migrations: new URL('../migrations/', import.meta.url),
  config: rewardsConfig,
  create: (ctx: RewardsContext) => ({
    routes: (app) => {
      mountCreateFeedback(app, ctx);
      mountCreateFeedbackBatch(app, ctx);
      mountListFeedback(app, ctx);
      mountDeleteFeedback(app, ctx);
      mountListRewards(app, ctx);
      mountListPreferences(app, ctx);
      mountStatistics(app, ctx);
      mountReview(app, ctx);
      mountRftRewards(app, ctx);
      mountJudge(app, ctx);
      mountSnapshots(app, ctx);
    },
    handlers: [
      projectHandler<RewardsContext>(),
      onResponseCreated,
      onResponseUpdated,
      onResponseDeleted,
      onCheckpointCreated,
      onEvaluationCompleted,
      onDeploymentChanged,
      onFeedbackSubmitted,
    ],
  }),
});
