import { deploymentChanged } from '@tuneloop/contracts/trainer/events';
import { serveModelReady } from '@tuneloop/contracts/responses/internal';
import { newId } from '@tuneloop/runtime/ids';
import { emit } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { TrainerContext } from '../config.ts';
import { type CheckpointRow, setActiveCheckpoint } from '../store/checkpoints.ts';
import {
  currentDeployment,
  type DeploymentRow,
  type DeploymentTarget,
  insertDeployment,
  type SlotRow,
} from '../store/deployments.ts';

/** Reading a large adapter into the serve process takes its time. */
const PRELOAD_TIMEOUT_MS = 120_000;

/** Everything to one checkpoint. Only for a checkpoint with a verified artefact. */
export function targetOf(checkpoint: Pick<CheckpointRow, 'id' | 'base_model' | 'storage_key'>): DeploymentTarget {
  if (checkpoint.base_model === null) throw new Error(`checkpoint ${checkpoint.id} has no base model`);
  return {
    checkpoint_id: checkpoint.id,
    base_model: checkpoint.base_model,
    storage_key: checkpoint.storage_key,
    weight: 1,
  };
}

export function baseTarget(baseModel: string): DeploymentTarget {
  return { checkpoint_id: null, base_model: baseModel, storage_key: null, weight: 1 };
}

/** Loads the adapter where it will answer, so that the switch costs no request. @throws AppError when it cannot be served */
export async function preload(
  ctx: TrainerContext,
  projectId: string,
  target: DeploymentTarget,
  correlationId?: string,
): Promise<void> {
  const { weight: _weight, ...model } = target;
  await ctx.callers.call(
    serveModelReady,
    { body: { target: model } },
    {
      projectId,
      timeoutMs: PRELOAD_TIMEOUT_MS,
      // Loading twice is loading once.
      idempotencyKey: newId(),
      ...(correlationId === undefined ? {} : { correlationId }),
    },
  );
}

export interface Deploy {
  readonly targets: DeploymentTarget[];
  readonly changedBy: string;
  readonly reason: string;
  readonly at: Date;
  readonly correlationId?: string | null;
  readonly restores?: number;
}

/**
 * Makes the targets what serves in the slot, and the first of them its active checkpoint. Nothing happens when they
 * serve already. The slot's row must be locked.
 */
export async function deploy(tx: Tx, slot: SlotRow, change: Deploy): Promise<DeploymentRow> {
  const current = await currentDeployment(tx, slot.slot);
  await setActiveCheckpoint(tx, slot.slot, change.targets[0]?.checkpoint_id ?? null);
  if (current && sameTargets(current.targets, change.targets)) return current;
  const deployment = await insertDeployment(tx, slot, {
    targets: change.targets,
    changed_by: change.changedBy,
    reason: change.reason,
    restores: change.restores ?? null,
    changed_at: change.at,
  });
  await emit(tx, deploymentChanged, {
    subject: slot.slot,
    aggregateVersion: deployment.version,
    correlationId: change.correlationId,
    data: deploymentState(deployment),
  });
  return deployment;
}

function sameTargets(a: readonly DeploymentTarget[], b: readonly DeploymentTarget[]): boolean {
  return (
    a.length === b.length &&
    a.every((target, i) => {
      const other = b[i]!;
      return (
        target.checkpoint_id === other.checkpoint_id &&
        target.base_model === other.base_model &&
        target.storage_key === other.storage_key &&
        target.weight === other.weight
      );
    })
  );
}

export function deploymentState(deployment: DeploymentRow) {
  return {
    slot: deployment.slot,
    version: deployment.version,
    targets: deployment.targets,
    changed_by: deployment.changed_by,
    changed_at: deployment.changed_at.toISOString(),
  };
}
