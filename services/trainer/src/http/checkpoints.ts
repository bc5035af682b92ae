import {
  activateCheckpoint,
  downloadCheckpointFile,
  getCheckpoint,
  listCheckpoints,
} from '@tuneloop/contracts/trainer/http';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { readManifest } from '../artefact.ts';
import type { TrainerContext } from '../config.ts';
import { findCheckpointById, listCheckpoints as listRows } from '../store/checkpoints.ts';
import { makeActive, prepareActivation } from '../usecases/activateCheckpoint.ts';
import { checkpointBody, unknownCheckpoint } from './mapping.ts';

export function mountCheckpoints(app: HttpApp, ctx: TrainerContext): void {
  mountRoute(app, ctx, listCheckpoints, async ({ query, tx }) => {
    const filter = { slot: query.slot, jobId: query.job_id, activeOnly: query.active_only };
    const rows = await listRows(tx, filter, { limit: query.limit, before: query.cursor });
    return { data: rows.map(checkpointBody), next_cursor: rows.length === query.limit ? rows.at(-1)!.id : null };
  });

  mountRoute(app, ctx, getCheckpoint, async ({ params, tx }) => {
    const row = await findCheckpointById(tx, params.id);
    if (!row) throw unknownCheckpoint(params.id);
    return checkpointBody(row);
  });

  mountRoute(
    app,
    ctx,
    activateCheckpoint,
    async ({ params, body, auth, tenant, idempotent }) => {
      const row = await tenant((tx) => findCheckpointById(tx, params.id));
      if (!row) throw unknownCheckpoint(params.id);
      // Here a person asks for it to serve: what cannot is an error, not a mere record.
      const plan = await prepareActivation(ctx, auth.projectId, row, 'must_serve');
      return idempotent(async (tx) =>
        checkpointBody(await makeActive(tx, ctx, plan, { by: auth.actor, reason: body.reason })),
      );
    },
    { transaction: false },
  );

  mountRoute(
    app,
    ctx,
    downloadCheckpointFile,
    async ({ params, auth, tenant, reply }) => {
      const row = await tenant((tx) => findCheckpointById(tx, params.id));
      if (!row) throw unknownCheckpoint(params.id);
      const manifest = await readManifest(ctx.blobs, auth.projectId, row.storage_key);
      const file = manifest.files[params.name]!;
      const stream = await ctx.blobs.get(file.key);
      void reply
        .header('content-length', file.size)
        .header('content-disposition', `attachment; filename="${params.name}"`);
      return stream;
    },
    { transaction: false },
  );
}
