import {
  getDeployment,
  listDeploymentHistory,
  listDeployments,
  rollbackDeployment,
  updateDeployment,
} from '@tuneloop/contracts/trainer/http';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { projectSettings } from '@tuneloop/runtime/projects';
import type { TrainerContext } from '../config.ts';
import {
  currentDeployment,
  findSlot,
  listCurrentDeployments,
  listDeploymentHistory as listRows,
  lockSlot,
  setAllowPosted,
} from '../store/deployments.ts';
import { baseTarget } from '../usecases/deploy.ts';
import { rollback } from '../usecases/rollback.ts';
import { deploymentBody } from './mapping.ts';

/** Slots that one answer shows. */
const MAX_SLOTS = 500;

export function mountDeployments(app: HttpApp, ctx: TrainerContext): void {
  mountRoute(app, ctx, listDeployments, async ({ tx }) => {
    const rows = await listCurrentDeployments(tx, MAX_SLOTS);
    return { data: rows.map(deploymentBody) };
  });

  mountRoute(app, ctx, getDeployment, ({ params, tx }) => slotBody(tx, ctx, params.slot));

  mountRoute(app, ctx, updateDeployment, async ({ params, body, tx }) => {
    await lockSlot(tx, params.slot);
    await setAllowPosted(tx, params.slot, body.allow_posted_checkpoints);
    return slotBody(tx, ctx, params.slot);
  });

  mountRoute(app, ctx, listDeploymentHistory, async ({ params, query, tx }) => {
    const before = query.cursor === undefined ? undefined : Number(query.cursor);
    const rows = await listRows(tx, params.slot, query.limit, before);
    return {
      data: rows.map(deploymentBody),
      next_cursor: rows.length === query.limit ? String(rows.at(-1)!.version) : null,
    };
  });

  mountRoute(app, ctx, rollbackDeployment, async ({ params, body, auth, tx }) =>
    deploymentBody(await rollback(tx, ctx, params.slot, { by: auth.actor, reason: body.reason })),
  );
}

/** A slot without a deployment serves the project's base. */
async function slotBody(tx: Tx, ctx: TrainerContext, slot: string) {
  const row = await findSlot(tx, slot);
  const current = await currentDeployment(tx, slot);
  const allowed = { allow_posted_checkpoints: row?.allow_posted ?? false };
  if (current) return { ...deploymentBody(current), ...allowed };
  return {
    slot,
    version: 0,
    targets: [baseTarget((await projectSettings(tx, ctx)).model)],
    changed_by: null,
    reason: null,
    restores: null,
    changed_at: null,
    ...allowed,
  };
}
