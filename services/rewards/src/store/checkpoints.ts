import type { Tx } from '@tuneloop/runtime/pg/database';

/** Notes a checkpoint and, when it has been measured, the reward of its fresh samples. Events may come in any order. */
export async function upsertCheckpoint(tx: Tx, id: string, freshReward: number | null): Promise<void> {
  await tx.execute(
    `INSERT INTO checkpoints (project_id, id, fresh_reward) VALUES ($1, $2, $3)
     ON CONFLICT (project_id, id) DO UPDATE SET fresh_reward = coalesce(EXCLUDED.fresh_reward, checkpoints.fresh_reward)`,
    [tx.projectId, id, freshReward],
  );
}

/** Notes what serves in a slot; an older version than the one known changes nothing. */
export async function upsertDeployment(
  tx: Tx,
  slot: string,
  version: number,
  checkpointIds: readonly string[],
): Promise<void> {
  await tx.execute(
    `INSERT INTO deployments (project_id, slot, version, checkpoint_ids) VALUES ($1, $2, $3, $4::uuid[])
     ON CONFLICT (project_id, slot) DO UPDATE SET version = EXCLUDED.version, checkpoint_ids = EXCLUDED.checkpoint_ids
     WHERE deployments.version < EXCLUDED.version`,
    [tx.projectId, slot, version, checkpointIds],
  );
}
