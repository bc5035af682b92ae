import {
  findCheckpointsOfVersions,
  findModelInternal,
  getCheckpointInternal,
  listDeploymentsInternal,
} from '@tuneloop/contracts/trainer/internal';
import { notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { TrainerContext } from '../config.ts';
import * as store from '../store/checkpoints.ts';
import { listCurrentDeployments } from '../store/deployments.ts';
import { deploymentState } from '../usecases/deploy.ts';
import { unknownCheckpoint } from './mapping.ts';

const MAX_SLOTS = 500;

/** What other services ask when they have not seen an event yet. */
export function mountInternal(app: HttpApp, ctx: TrainerContext): void {
  mountRoute(app, ctx, listDeploymentsInternal, async ({ tx }) => {
    const rows = await listCurrentDeployments(tx, MAX_SLOTS);
    return { data: rows.map(deploymentState) };
  });

  mountRoute(app, ctx, getCheckpointInternal, async ({ params, tx }) => {
    const row = await store.findCheckpointById(tx, params.id);
    if (!row) throw unknownCheckpoint(params.id);
    return checkpointState(row);
  });

  mountRoute(app, ctx, findCheckpointsOfVersions, async ({ body, tx }) => ({
    data: await store.findCheckpointsOfVersions(tx, body.dataset_version_ids),
  }));

  mountRoute(app, ctx, findModelInternal, async ({ query, tx }) => {
    const row = await store.findCheckpointByName(tx, query.model_name);
    if (!row) throw notFound('trainer.model.not_found', `There is no model ${query.model_name}.`);
    return checkpointState(row);
  });
}

/** As checkpoint.created tells it. A posted record has no model; its artefact may not be there. */
function checkpointState(row: store.CheckpointRow) {
  return {
    checkpoint_id: row.id,
    job_id: row.job_id,
    base_model: row.base_model ?? '',
    storage_key: row.storage_key,
    sha256: row.sha256 ?? '',
    step: row.step ?? 0,
    epoch: row.epoch,
    model_name: row.model_name ?? '',
  };
}
