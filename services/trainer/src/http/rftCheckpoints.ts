import {
  createRftCheckpoint,
  deleteRftCheckpoint,
  listRftCheckpoints,
  updateRftCheckpoint,
} from '@tuneloop/contracts/trainer/http';
import { AppError } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { newId } from '@tuneloop/runtime/ids';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { TrainerContext } from '../config.ts';
import {
  type CheckpointChange,
  type CheckpointRow,
  checkpointStatistics,
  countCheckpoints,
  deleteCheckpoint,
  findCheckpointById,
  insertCheckpoint,
  listCheckpoints,
  setActiveCheckpoint,
  updateCheckpoint,
} from '../store/checkpoints.ts';
import { isCheckpointServing, lockSlot } from '../store/deployments.ts';
import { type Activation, makeActive, prepareActivation } from '../usecases/activateCheckpoint.ts';
import { withdraw } from '../usecases/withdraw.ts';
import { unknownCheckpoint } from './mapping.ts';

const SLOT = 'default';
const BY_CLIENT = 'Made active by rft-checkpoints.';

/** `/functions/v1/rft-checkpoints`, as existing clients call it. */
export function mountRftCheckpoints(app: HttpApp, ctx: TrainerContext): void {
  mountRoute(
    app,
    ctx,
    createRftCheckpoint,
    async ({ body, auth, idempotent }) => {
      const id = newId();
      // Looked at before it is stored, so that nothing slow happens inside the transaction.
      const plan = body.is_active
        ? await prepareActivation(ctx, auth.projectId, draft(id, body), 'may_be_record')
        : null;
      return idempotent(async (tx) => {
        const row = await insertCheckpoint(tx, draft(id, body));
        const stored = plan
          ? await makeActive(tx, ctx, { ...plan, checkpoint: row! }, { by: auth.actor, reason: BY_CLIENT })
          : row!;
        return { success: true, data: rftBody(stored, plan) };
      });
    },
    { transaction: false },
  );

  mountRoute(app, ctx, listRftCheckpoints, async ({ query, tx }) => {
    const filter = { version: query.version, activeOnly: query.active_only };
    const rows = await listCheckpoints(tx, filter, { limit: query.limit, offset: query.offset });
    return {
      success: true,
      data: rows.map((row) => rftBody(row, null)),
      count: await countCheckpoints(tx, filter),
      stats: await checkpointStatistics(tx, filter),
    };
  });

  mountRoute(
    app,
    ctx,
    updateRftCheckpoint,
    async ({ query, body, auth, tenant }) => {
      const { is_active: active, ...change } = body;
      const before = await tenant((tx) => findCheckpointById(tx, query.id));
      if (!before) throw unknownCheckpoint(query.id);
      if (
        before.origin === 'trained' &&
        change.storage_key !== undefined &&
        change.storage_key !== before.storage_key
      ) {
        throw new AppError({
          code: 'trainer.checkpoint.artefact_fixed',
          status: 400,
          message: 'storage_key of a checkpoint that was trained here cannot be changed.',
          retry: false,
          field: 'storage_key',
        });
      }
      const changed = { ...before, storage_key: change.storage_key ?? before.storage_key };
      const plan = active === true ? await prepareActivation(ctx, auth.projectId, changed, 'may_be_record') : null;
      const row = await tenant((tx) => applyUpdate(tx, ctx, before, { active, change, plan, by: auth.actor }));
      return { success: true, data: rftBody(row, plan) };
    },
    { transaction: false },
  );

  mountRoute(app, ctx, deleteRftCheckpoint, async ({ query, tx }) => {
    const row = await findCheckpointById(tx, query.id);
    if (!row) throw unknownCheckpoint(query.id);
    await lockSlot(tx, row.slot);
    const now = await findCheckpointById(tx, query.id);
    if (now?.is_active || (await isCheckpointServing(tx, query.id))) {
      throw new AppError({
        code: 'trainer.checkpoint.active',
        status: 400,
        message: 'The active checkpoint cannot be deleted. Make another one active first.',
        retry: false,
        field: 'id',
      });
    }
    await deleteCheckpoint(tx, query.id);
    return { success: true, message: `Checkpoint ${query.id} was deleted.` };
  });
}

interface Update {
  readonly active: boolean | undefined;
  readonly change: CheckpointChange;
  readonly plan: Activation | null;
  readonly by: string;
}

async function applyUpdate(tx: Tx, ctx: TrainerContext, before: CheckpointRow, update: Update): Promise<CheckpointRow> {
  await lockSlot(tx, before.slot);
  const row = await updateCheckpoint(tx, before.id, update.change);
  if (!row) throw unknownCheckpoint(before.id);
  if (update.plan) {
    return makeActive(tx, ctx, { ...update.plan, checkpoint: row }, { by: update.by, reason: BY_CLIENT });
  }
  if (update.active === false && row.is_active) {
    await setActiveCheckpoint(tx, row.slot, null);
    await withdraw(tx, ctx, row, { by: update.by, reason: 'Made inactive by rft-checkpoints.' });
  }
  return (await findCheckpointById(tx, before.id))!;
}

type Posted = Pick<CheckpointRow, 'version' | 'storage_key' | 'epoch'> & {
  readonly url?: string | null | undefined;
  readonly avg_reward?: number | null | undefined;
};

function draft(id: string, body: Posted): CheckpointRow {
  const now = new Date(0);
  return {
    id,
    project_id: '',
    job_id: null,
    slot: SLOT,
    origin: 'posted',
    version: body.version,
    storage_key: body.storage_key,
    url: body.url ?? null,
    sha256: null,
    base_model: null,
    model_name: null,
    step: null,
    epoch: body.epoch,
    avg_reward: body.avg_reward ?? null,
    metrics: {},
    lineage: {},
    manifest: {},
    is_active: false,
    created_at: now,
    updated_at: now,
  };
}

function rftBody(row: CheckpointRow, plan: Activation | null) {
  return {
    id: row.id,
    version: row.version,
    storage_key: row.storage_key,
    url: row.url,
    epoch: row.epoch,
    avg_reward: row.avg_reward,
    is_active: row.is_active,
    // Says plainly when an active record does not serve.
    metadata: {
      origin: row.origin,
      ...(row.model_name === null ? {} : { model_name: row.model_name }),
      ...(plan ? { serves: plan.serves, ...(plan.recordOnlyBecause ? { why: plan.recordOnlyBecause } : {}) } : {}),
    },
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  };
}
