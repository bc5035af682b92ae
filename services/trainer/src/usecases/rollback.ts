import { AppError } from '@tuneloop/runtime/errors';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { projectSettings } from '@tuneloop/runtime/projects';
import type { TrainerContext } from '../config.ts';
import { currentDeployment, type DeploymentRow, findEarlierDeployment, lockSlot } from '../store/deployments.ts';
import { baseTarget, deploy } from './deploy.ts';

/**
 * Brings back what served before; called again, what served before that. Before the first deployment it is the base.
 * @throws AppError 409 when there is nothing before
 */
export async function rollback(
  tx: Tx,
  ctx: TrainerContext,
  slotName: string,
  by: { readonly by: string; readonly reason: string },
): Promise<DeploymentRow> {
  const slot = await lockSlot(tx, slotName);
  const current = await currentDeployment(tx, slotName);
  if (!current) throw nothingBefore(slotName);
  const from = current.restores ?? current.version;
  const earlier = await findEarlierDeployment(tx, slotName, from, current.targets);
  const first = current.targets[0];
  if (!earlier && first?.checkpoint_id === null) throw nothingBefore(slotName);
  const base = first?.base_model ?? (await projectSettings(tx, ctx)).model;
  return deploy(tx, slot, {
    targets: earlier?.targets ?? [baseTarget(base)],
    changedBy: by.by,
    reason: by.reason,
    at: ctx.clock(),
    restores: earlier?.version ?? 0,
  });
}

function nothingBefore(slot: string): AppError {
  return new AppError({
    code: 'trainer.deployment.nothing_before',
    status: 409,
    message: `Nothing served in the slot ${slot} before what serves now.`,
    retry: false,
  });
}
