import {
  downloadEvaluationSamples,
  getEvaluation,
  getPromotionDecision,
  listEvaluations,
  listPromotionDecisions,
  overridePromotionDecision,
} from '@tuneloop/contracts/trainer/http';
import { notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { TrainerContext } from '../config.ts';
import {
  findDecisionById,
  findEvaluationById,
  listDecisions,
  listEvaluations as listRows,
} from '../store/evaluations.ts';
import { overrideDecisionOf, prepareOverride } from '../usecases/overrideDecision.ts';
import { decisionBody, evaluationBody } from './mapping.ts';

export function mountEvaluations(app: HttpApp, ctx: TrainerContext): void {
  mountRoute(app, ctx, listEvaluations, async ({ query, tx }) => {
    const filter = { jobId: query.job_id, checkpointId: query.checkpoint_id };
    const rows = await listRows(tx, filter, query.limit, query.cursor);
    return { data: rows.map(evaluationBody), next_cursor: rows.length === query.limit ? rows.at(-1)!.id : null };
  });

  mountRoute(app, ctx, getEvaluation, async ({ params, tx }) => {
    const row = await findEvaluationById(tx, params.id);
    if (!row) throw unknownEvaluation(params.id);
    return evaluationBody(row);
  });

  mountRoute(
    app,
    ctx,
    downloadEvaluationSamples,
    async ({ params, tenant }) => {
      const row = await tenant((tx) => findEvaluationById(tx, params.id));
      if (!row?.samples_key) throw unknownEvaluation(params.id);
      return ctx.blobs.get(row.samples_key);
    },
    { transaction: false },
  );

  mountRoute(app, ctx, listPromotionDecisions, async ({ query, tx }) => {
    const rows = await listDecisions(tx, { slot: query.slot, jobId: query.job_id }, query.limit, query.cursor);
    return { data: rows.map(decisionBody), next_cursor: rows.length === query.limit ? rows.at(-1)!.id : null };
  });

  mountRoute(app, ctx, getPromotionDecision, async ({ params, tx }) => {
    const row = await findDecisionById(tx, params.id);
    if (!row) throw unknownDecision(params.id);
    return decisionBody(row);
  });

  mountRoute(
    app,
    ctx,
    overridePromotionDecision,
    async ({ params, body, auth, tenant, idempotent }) => {
      const row = await tenant((tx) => findDecisionById(tx, params.id));
      if (!row) throw unknownDecision(params.id);
      await prepareOverride(ctx, auth.projectId, row);
      return idempotent(async (tx) => decisionBody(await overrideDecisionOf(tx, ctx, row.id, auth.actor, body.reason)));
    },
    { transaction: false },
  );
}

function unknownEvaluation(id: string) {
  return notFound('trainer.evaluation.not_found', `There is no evaluation ${id}, or it has no samples yet.`);
}

function unknownDecision(id: string) {
  return notFound('trainer.decision.not_found', `There is no promotion decision ${id}.`);
}
