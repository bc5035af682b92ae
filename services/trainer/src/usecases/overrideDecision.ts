import { promotionDecided } from '@tuneloop/contracts/trainer/events';
import { AppError, notFound } from '@tuneloop/runtime/errors';
import { emit } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { TrainerContext } from '../config.ts';
import { overrideDecision } from '../domain/gate.ts';
import { type CheckpointRow, findCheckpointById } from '../store/checkpoints.ts';
import { currentDeployment, lockSlot } from '../store/deployments.ts';
import { type DecisionRow, lockDecisionById, storeOverride } from '../store/evaluations.ts';
import { findJobById } from '../store/jobs.ts';
import { deploy, preload, targetOf } from './deploy.ts';
import { rollback } from './rollback.ts';

/** An override that promotes needs the adapter where it will answer. */
export async function prepareOverride(ctx: TrainerContext, projectId: string, row: DecisionRow): Promise<void> {
  if (row.decision === 'promoted') return;
  const checkpoint = await ctx.pg.withTenant(projectId, (tx) => findCheckpointById(tx, row.checkpoint_id));
  if (!checkpoint) throw gone(row);
  await preload(ctx, projectId, targetOf(checkpoint));
}

/**
 * A person decides otherwise: what was kept serves; what was promoted, and still serves, is rolled back.
 * @throws AppError 409 when a person has decided already
 */
export async function overrideDecisionOf(
  tx: Tx,
  ctx: TrainerContext,
  id: string,
  person: string,
  reason: string,
): Promise<DecisionRow> {
  const row = await lockDecisionById(tx, id);
  if (!row) throw notFound('trainer.decision.not_found', `There is no promotion decision ${id}.`);
  if (row.overridden_at !== null) {
    throw new AppError({
      code: 'trainer.decision.overridden',
      status: 409,
      message: 'A person has overridden this decision already. Activate a checkpoint or roll back instead.',
      retry: false,
    });
  }
  const numbers = overrideDecision(row.numbers, person, reason);
  const job = await findJobById(tx, row.job_id);
  const checkpoint = await findCheckpointById(tx, row.checkpoint_id);
  if (numbers.decision === 'promoted') {
    if (!checkpoint) throw gone(row);
    const slot = await lockSlot(tx, row.slot);
    await deploy(tx, slot, {
      targets: [targetOf(checkpoint)],
      changedBy: person,
      reason: numbers.reason,
      at: ctx.clock(),
      correlationId: job?.correlation_id ?? null,
    });
  } else if (await serves(tx, row, checkpoint)) {
    await rollback(tx, ctx, row.slot, { by: person, reason: numbers.reason });
  }
  const stored = await storeOverride(
    tx,
    id,
    { decision: numbers.decision, reason: numbers.reason, decided_by: person, numbers },
    ctx.clock(),
  );
  await emit(tx, promotionDecided, {
    subject: row.job_id,
    correlationId: job?.correlation_id ?? null,
    data: {
      decision_id: row.id,
      job_id: row.job_id,
      request_id: job?.request_id ?? null,
      slot: row.slot,
      checkpoint_id: row.checkpoint_id,
      decision: numbers.decision,
      reason: numbers.reason,
      decided_by: person,
    },
  });
  return stored;
}

async function serves(tx: Tx, row: DecisionRow, checkpoint: CheckpointRow | undefined): Promise<boolean> {
  const current = await currentDeployment(tx, row.slot);
  return current?.targets.some((target) => target.checkpoint_id === checkpoint?.id) ?? false;
}

function gone(row: DecisionRow): AppError {
  return notFound('trainer.checkpoint.not_found', `The checkpoint ${row.checkpoint_id} of this decision is gone.`);
}
