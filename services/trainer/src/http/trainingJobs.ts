import { getDatasetVersionInternal } from '@tuneloop/contracts/datasets/internal';
import {
  cancelTrainingJob,
  createTrainingJob,
  getTrainingJob,
  listTrainingJobs,
  listTrainingMetrics,
  pauseTrainingJob,
  resumeTrainingJob,
} from '@tuneloop/contracts/trainer/http';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { projectSettings } from '@tuneloop/runtime/projects';
import type { TrainerContext } from '../config.ts';
import type { WakeUp } from '../events/wakeUp.ts';
import { listMetrics } from '../store/curve.ts';
import { findJobById, listJobs, lockJobById } from '../store/jobs.ts';
import { createJob, requireTrainable } from '../usecases/createJob.ts';
import { jobDataset } from '../usecases/freezeJobFiles.ts';
import { pauseJob, resumeJob } from '../usecases/pauseJob.ts';
import { cancelJob } from '../usecases/settleJob.ts';
import { jobBody, unknownJob } from './mapping.ts';

export function mountTrainingJobs(app: HttpApp, ctx: TrainerContext, wake: WakeUp): void {
  mountRoute(
    app,
    ctx,
    createTrainingJob,
    async ({ body, auth, idempotent }) => {
      const version = await ctx.callers.call(
        getDatasetVersionInternal,
        { params: { id: body.dataset_version_id } },
        { projectId: auth.projectId, actor: auth.actor },
      );
      return idempotent(async (tx) => {
        const baseModel = body.base_model ?? (await projectSettings(tx, ctx)).model;
        const asked = {
          method: body.method,
          base_model: baseModel,
          start_from: body.start_from,
          reference: body.reference,
        };
        await requireTrainable(tx, ctx, asked);
        const job = await createJob(tx, {
          ...asked,
          source: 'direct',
          status: 'queued',
          slot: body.slot,
          seed: body.seed ?? null,
          suffix: body.suffix ?? body.slot,
          evaluate: body.evaluate,
          hyperparameters: body.hyperparameters,
          dataset_version_id: version.id,
          dataset: jobDataset(version),
          requested_by: auth.actor,
        });
        tx.afterCommit(() => wake.wakeTraining());
        return jobBody(job!);
      });
    },
    { transaction: false },
  );

  mountRoute(app, ctx, listTrainingJobs, async ({ query, tx }) => {
    const filter = { status: query.status, slot: query.slot, requestId: query.request_id };
    const rows = await listJobs(tx, filter, query.limit, query.cursor);
    return { data: rows.map(jobBody), next_cursor: rows.length === query.limit ? rows.at(-1)!.id : null };
  });

  mountRoute(app, ctx, getTrainingJob, async ({ params, tx }) => {
    const row = await findJobById(tx, params.id);
    if (!row) throw unknownJob(params.id);
    return jobBody(row);
  });

  mountRoute(app, ctx, cancelTrainingJob, async ({ params, auth, tx }) => {
    const row = await lockJobById(tx, params.id);
    if (!row) throw unknownJob(params.id);
    tx.afterCommit(() => wake.wakeTraining());
    return jobBody(await cancelJob(tx, row, auth.actor, ctx.clock()));
  });

  mountRoute(app, ctx, pauseTrainingJob, async ({ params, tx }) => {
    const row = await lockJobById(tx, params.id);
    if (!row) throw unknownJob(params.id);
    tx.afterCommit(() => wake.wakeTraining());
    return jobBody(await pauseJob(tx, row));
  });

  mountRoute(app, ctx, resumeTrainingJob, async ({ params, tx }) => {
    const row = await lockJobById(tx, params.id);
    if (!row) throw unknownJob(params.id);
    tx.afterCommit(() => wake.wakeTraining());
    return jobBody(await resumeJob(tx, row));
  });

  mountRoute(app, ctx, listTrainingMetrics, async ({ params, query, tx }) => {
    if (!(await findJobById(tx, params.id))) throw unknownJob(params.id);
    const rows = await listMetrics(tx, params.id, query.limit, Number(query.cursor ?? 0));
    return { data: rows, next_cursor: rows.length === query.limit ? String(rows.at(-1)!.step) : null };
  });
}
