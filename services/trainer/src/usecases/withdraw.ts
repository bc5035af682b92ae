import type { Tx } from '@tuneloop/runtime/pg/database';
import type { TrainerContext } from '../config.ts';
import type { CheckpointRow } from '../store/checkpoints.ts';
import { currentDeployment, lockSlot } from '../store/deployments.ts';
import { baseTarget, deploy } from './deploy.ts';

/** A checkpoint that is no longer active no longer serves: its base does. Nothing happens when it did not serve. */
export async function withdraw(
  tx: Tx,
  ctx: TrainerContext,
  checkpoint: CheckpointRow,
  by: { readonly by: string; readonly reason: string },
): Promise<void> {
  const current = await currentDeployment(tx, checkpoint.slot);
  const target = current?.targets.find(({ checkpoint_id: id }) => id === checkpoint.id);
  if (!target) return;
  const slot = await lockSlot(tx, checkpoint.slot);
  await deploy(tx, slot, {
    targets: [baseTarget(target.base_model)],
    changedBy: by.by,
    reason: by.reason,
    at: ctx.clock(),
  });
}
