import { projectHandler } from '@tuneloop/runtime/projects';
import { defineService } from '@tuneloop/runtime/service';
import { type TrainerContext, trainerConfig } from './config.ts';
import { datasetHandlers } from './events/onDatasetAnswers.ts';
import { onTrainingRequested } from './events/onTrainingRequested.ts';
import type { WakeUp } from './events/wakeUp.ts';
import { mountCheckpoints } from './http/checkpoints.ts';
import { mountDeployments } from './http/deployments.ts';
import { mountEvaluations } from './http/evaluations.ts';
import { mountFineTuningJobs } from './http/fineTuningJobs.ts';
import { mountInternal } from './http/internal.ts';
import { mountRftCheckpoints } from './http/rftCheckpoints.ts';
import { mountTrainingJobs } from './http/trainingJobs.ts';
import { EvaluationPool } from './jobs/evaluationPool.ts';
import { Sweeper } from './jobs/sweeper.ts';
import { TrainingPool } from './jobs/trainingPool.ts';

export const trainerService = defineService({
  name: 'trainer',
  migrations: new URL('../migrations/', import.meta.url),
  config: trainerConfig,
  create: (ctx: TrainerContext) => {
    const evaluations = new EvaluationPool(ctx);
    const training = new TrainingPool(ctx, () => evaluations.wake());
    const wake: WakeUp = { wakeTraining: () => training.wake() };
    return {
      routes: (app) => {
        mountTrainingJobs(app, ctx, wake);
        mountCheckpoints(app, ctx);
        mountEvaluations(app, ctx);
        mountDeployments(app, ctx);
        mountRftCheckpoints(app, ctx);
        mountFineTuningJobs(app, ctx, wake);
        mountInternal(app, ctx);
      },
      handlers: [projectHandler<TrainerContext>(), onTrainingRequested(wake), ...datasetHandlers(wake)],
      jobs: [training, evaluations, new Sweeper(ctx)],
    };
  },
});
