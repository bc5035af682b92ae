import type {
  Checkpoint,
  Deployment,
  Evaluation,
  PromotionDecision,
  TrainingJob,
} from '@tuneloop/contracts/trainer/http';
import { notFound } from '@tuneloop/runtime/errors';
import type { CheckpointRow } from '../store/checkpoints.ts';
import type { DeploymentRow } from '../store/deployments.ts';
import type { DecisionRow, EvaluationRow } from '../store/evaluations.ts';
import type { JobRow } from '../store/jobs.ts';
import { deploymentState } from '../usecases/deploy.ts';

type Json = Checkpoint['manifest'];
const time = (at: Date | null): string | null => at?.toISOString() ?? null;

export function jobBody(row: JobRow): TrainingJob {
  const { result } = row;
  return {
    id: row.id,
    request_id: row.request_id,
    correlation_id: row.correlation_id,
    source: row.source,
    status: row.status,
    method: row.method,
    slot: row.slot,
    base_model: row.base_model,
    start_from: row.start_from,
    reference: row.reference,
    seed: row.seed,
    suffix: row.suffix,
    evaluate: row.evaluate,
    hyperparameters: row.hyperparameters,
    settings: row.settings as Json | null,
    dataset_version_id: row.dataset_version_id,
    progress: row.progress,
    result,
    checkpoint_id: row.checkpoint_id,
    error: row.error,
    requested_by: row.requested_by,
    cancelled_by: row.cancelled_by,
    created_at: row.created_at.toISOString(),
    started_at: time(row.started_at),
    trained_at: time(row.trained_at),
    completed_at: time(row.completed_at),
  };
}

export function checkpointBody(row: CheckpointRow): Checkpoint {
  return {
    id: row.id,
    job_id: row.job_id,
    slot: row.slot,
    origin: row.origin,
    version: row.version,
    storage_key: row.storage_key,
    url: row.url,
    sha256: row.sha256,
    base_model: row.base_model,
    model_name: row.model_name,
    step: row.step,
    epoch: row.epoch,
    avg_reward: row.avg_reward,
    metrics: row.metrics as Json,
    lineage: row.lineage as Json,
    manifest: row.manifest as Json,
    is_active: row.is_active,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  };
}

export function evaluationBody(row: EvaluationRow): Evaluation {
  return {
    id: row.id,
    job_id: row.job_id,
    checkpoint_id: row.checkpoint_id,
    slot: row.slot,
    status: row.status,
    incumbent: row.incumbent,
    progress: row.progress,
    before: row.before,
    after: row.after,
    difference: row.difference,
    judge: row.judge,
    error: row.error,
    created_at: row.created_at.toISOString(),
    started_at: time(row.started_at),
    completed_at: time(row.completed_at),
  };
}

export function decisionBody(row: DecisionRow): PromotionDecision {
  return {
    id: row.id,
    slot: row.slot,
    job_id: row.job_id,
    evaluation_id: row.evaluation_id,
    checkpoint_id: row.checkpoint_id,
    decision: row.decision,
    reason: row.reason,
    decided_by: row.decided_by,
    numbers: row.numbers as unknown as Json,
    created_at: row.created_at.toISOString(),
    overridden_at: time(row.overridden_at),
  };
}

export function deploymentBody(row: DeploymentRow): Deployment {
  return { ...deploymentState(row), reason: row.reason, restores: row.restores };
}

export function unknownJob(id: string) {
  return notFound('trainer.job.not_found', `There is no training job ${id}.`);
}

export function unknownCheckpoint(id: string) {
  return notFound('trainer.checkpoint.not_found', `There is no checkpoint ${id}.`);
}
