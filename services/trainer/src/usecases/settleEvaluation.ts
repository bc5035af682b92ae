import { evaluationCompleted, promotionDecided } from '@tuneloop/contracts/trainer/events';
import { newId } from '@tuneloop/runtime/ids';
import { assertLease, type Lease } from '@tuneloop/runtime/leases';
import { emit } from '@tuneloop/runtime/outbox/emit';
import type { TrainerContext } from '../config.ts';
import type { EvaluationOutcome } from '../domain/evaluation.ts';
import { type CheckpointRow, updateCheckpoint } from '../store/checkpoints.ts';
import { insertMessage } from '../store/curve.ts';
import { currentDeployment, type DeploymentTarget, lockSlot, storeSpending } from '../store/deployments.ts';
import { type EvaluationRow, insertDecision, updateEvaluation } from '../store/evaluations.ts';
import { type JobRow, lockJobById, updateJob } from '../store/jobs.ts';
import { deploy, targetOf } from './deploy.ts';

export interface Decided {
  readonly job: JobRow;
  readonly checkpoint: CheckpointRow;
  readonly incumbent: DeploymentTarget;
  readonly outcome: EvaluationOutcome;
  readonly judge: EvaluationRow['judge'];
  readonly samplesKey: string;
  readonly testGroups: readonly string[];
  /** Of the slot's spending that the decision was made from. */
  readonly spendingVersion: number;
}

const GATE = 'gate';

/**
 * Evaluation, decision, spending, deployment and the job's end in one transaction. Nothing happens when another
 * decision has spent from the slot since, or when another checkpoint serves than the one compared with.
 */
export async function settleEvaluation(
  ctx: TrainerContext,
  lease: Lease,
  decided: Decided,
): Promise<'done' | 'spending_changed' | 'incumbent_changed'> {
  const { job, checkpoint, outcome } = decided;
  const { decision } = outcome;
  const now = ctx.clock();
  return ctx.pg.withTenant(
    lease.projectId,
    async (tx) => {
      const current = await lockJobById(tx, job.id);
      await assertLease(tx, 'evaluations', lease);
      if (current?.status !== 'evaluating') return 'done';
      const slot = await lockSlot(tx, job.slot);
      if (slot.spending_version !== decided.spendingVersion) return 'spending_changed';
      const serving = await currentDeployment(tx, job.slot);
      if (serving && !serving.targets.some((t) => t.checkpoint_id === decided.incumbent.checkpoint_id)) {
        return 'incumbent_changed';
      }
      await updateEvaluation(tx, lease.id, {
        status: 'completed',
        before: outcome.before,
        after: outcome.after,
        difference: outcome.difference,
        judge: decided.judge,
        samples_key: decided.samplesKey,
        completed_at: now,
      });
      await updateCheckpoint(tx, checkpoint.id, {
        avg_reward: outcome.after.freshReward?.value ?? null,
        metrics: { ...checkpoint.metrics, evaluation: outcome.after },
      });
      const ref = { job_id: job.id, request_id: job.request_id };
      const event = { subject: job.id, correlationId: job.correlation_id };
      await emit(tx, evaluationCompleted, {
        ...event,
        data: {
          ...ref,
          evaluation_id: lease.id,
          checkpoint_id: checkpoint.id,
          before: outcome.before,
          after: outcome.after,
        },
      });
      const { next } = decision.spending;
      // The groups that count as known are those of the period's beginning.
      const groups = decision.spending.reset ? decided.testGroups : (slot.spending_groups ?? decided.testGroups);
      await storeSpending(tx, job.slot, next, groups);
      const row = await insertDecision(tx, {
        id: newId(),
        slot: job.slot,
        job_id: job.id,
        evaluation_id: lease.id,
        checkpoint_id: checkpoint.id,
        decision: decision.decision,
        reason: decision.reason,
        decided_by: GATE,
        numbers: decision,
      });
      await emit(tx, promotionDecided, {
        ...event,
        data: {
          ...ref,
          decision_id: row.id,
          slot: job.slot,
          checkpoint_id: checkpoint.id,
          decision: decision.decision,
          reason: decision.reason,
          decided_by: GATE,
        },
      });
      if (decision.decision === 'promoted') {
        await deploy(tx, slot, {
          targets: [targetOf(checkpoint)],
          changedBy: GATE,
          reason: decision.reason,
          at: now,
          correlationId: job.correlation_id,
        });
      }
      await updateJob(tx, job.id, { status: 'completed', completed_at: now });
      await insertMessage(tx, job.id, 'info', decision.reason);
      return 'done';
    },
    { actor: 'service:trainer' },
  );
}
