import { checkpointCreated, deploymentChanged, evaluationCompleted } from '@tuneloop/contracts/trainer/events';
import { defineHandler } from '@tuneloop/runtime/inbox/handler';
import type { RewardsContext } from '../config.ts';
import { upsertCheckpoint, upsertDeployment } from '../store/checkpoints.ts';

/** What statistics tell of checkpoints. */
export const onCheckpointCreated = defineHandler<typeof checkpointCreated, RewardsContext>({
  name: 'on_checkpoint_created',
  event: checkpointCreated,
  handle: (tx, { data }) => upsertCheckpoint(tx, data.checkpoint_id, null),
});

export const onEvaluationCompleted = defineHandler<typeof evaluationCompleted, RewardsContext>({
  name: 'on_evaluation_completed',
  event: evaluationCompleted,
  handle: (tx, { data }) => upsertCheckpoint(tx, data.checkpoint_id, data.after.freshReward?.value ?? null),
});

export const onDeploymentChanged = defineHandler<typeof deploymentChanged, RewardsContext>({
  name: 'on_deployment_changed',
  event: deploymentChanged,
  handle: (tx, { data }) => {
    const serving = data.targets.flatMap(({ checkpoint_id, weight }) =>
      checkpoint_id === null || weight === 0 ? [] : [checkpoint_id],
    );
    return upsertDeployment(tx, data.slot, data.version, serving);
  },
});
