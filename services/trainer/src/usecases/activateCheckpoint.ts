import { AppError } from '@tuneloop/runtime/errors';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { verifyArtefact } from '../artefact.ts';
import type { TrainerContext } from '../config.ts';
import { type CheckpointRow, findCheckpointById, setActiveCheckpoint, updateCheckpoint } from '../store/checkpoints.ts';
import { findSlot, lockSlot } from '../store/deployments.ts';
import { deploy, preload, targetOf } from './deploy.ts';

/** What becomes of a checkpoint that is made active: it serves, or it is active in the registry alone, and why. */
export interface Activation {
  readonly checkpoint: CheckpointRow;
  readonly serves: boolean;
  /** Of a posted artefact that has been verified. */
  readonly verified: { readonly baseModel: string; readonly sha256: string } | null;
  readonly recordOnlyBecause: string | null;
}

/**
 * Looks whether a checkpoint may serve: trained here, or posted with an artefact that is in the store, verified, and
 * allowed in its slot. Loads it where it will answer.
 * @throws AppError with `must_serve` when it may not; when it may and cannot be loaded
 */
export async function prepareActivation(
  ctx: TrainerContext,
  projectId: string,
  checkpoint: CheckpointRow,
  mode: 'must_serve' | 'may_be_record',
): Promise<Activation> {
  if (checkpoint.origin === 'trained') {
    await preload(ctx, projectId, targetOf(checkpoint));
    return { checkpoint, serves: true, verified: null, recordOnlyBecause: null };
  }
  try {
    const slot = await ctx.pg.withTenant(projectId, (tx) => findSlot(tx, checkpoint.slot));
    if (!slot?.allow_posted) throw notAllowed(checkpoint.slot);
    const verified = await verifyArtefact(ctx.blobs, ctx.config.BASE_MODELS, projectId, checkpoint.storage_key);
    await preload(ctx, projectId, { ...targetOf({ ...checkpoint, base_model: verified.baseModel }) });
    return { checkpoint, serves: true, verified, recordOnlyBecause: null };
  } catch (error) {
    if (mode === 'must_serve' || !(error instanceof AppError) || error.status >= 500) throw error;
    return { checkpoint, serves: false, verified: null, recordOnlyBecause: error.message };
  }
}

/**
 * Makes the checkpoint its slot's only active one, and lets it serve when it may. A record that becomes active leaves
 * what serves as it is.
 */
export async function makeActive(
  tx: Tx,
  ctx: TrainerContext,
  activation: Activation,
  by: { readonly by: string; readonly reason: string },
): Promise<CheckpointRow> {
  const { checkpoint, verified } = activation;
  const slot = await lockSlot(tx, checkpoint.slot);
  if (!activation.serves) {
    await setActiveCheckpoint(tx, checkpoint.slot, checkpoint.id);
  } else {
    const row = verified
      ? await updateCheckpoint(tx, checkpoint.id, { base_model: verified.baseModel, sha256: verified.sha256 })
      : checkpoint;
    await deploy(tx, slot, {
      targets: [targetOf(row)],
      changedBy: by.by,
      reason: by.reason,
      at: ctx.clock(),
      correlationId: null,
    });
  }
  return (await findCheckpointById(tx, checkpoint.id))!;
}

function notAllowed(slot: string): AppError {
  return new AppError({
    code: 'trainer.checkpoint.not_allowed',
    status: 409,
    message: `Posted checkpoints may not serve in the slot ${slot}. Set allow_posted_checkpoints of its deployment first.`,
    retry: false,
  });
}
