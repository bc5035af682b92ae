import { checkpointCreated, trainingCompleted } from '@tuneloop/contracts/trainer/events';
import { newId } from '@tuneloop/runtime/ids';
import { assertLease, type Lease } from '@tuneloop/runtime/leases';
import { emitAll, pendingEvent } from '@tuneloop/runtime/outbox/emit';
import { projectState } from '@tuneloop/runtime/projects';
import { putAdapter } from '../artefact.ts';
import type { TrainerContext } from '../config.ts';
import type { TrainingSettings } from '../domain/defaults.ts';
import { isOver, type JobResult } from '../domain/job.ts';
import { fineTunedModelName } from '../domain/modelName.ts';
import { type CheckpointRow, countTrained, insertCheckpoint } from '../store/checkpoints.ts';
import { insertMessage } from '../store/curve.ts';
import { registerResultFile } from './resultFile.ts';
import { lockSlot } from '../store/deployments.ts';
import { insertEvaluation } from '../store/evaluations.ts';
import { isStateShared, type JobRow, lockJobById, updateJob } from '../store/jobs.ts';
import type { TrainedMessage } from '../worker/messages.ts';

const MIB = 1024 * 1024;

/**
 * The adapter is written: it becomes a checkpoint with all that made it, and the job goes on to its evaluation or is
 * done. One transaction; the blobs before it are named by their content, so a second try finds the same ones.
 */
export async function finishTraining(
  ctx: TrainerContext,
  lease: Lease,
  job: JobRow,
  settings: TrainingSettings,
  trained: TrainedMessage,
  evalLoss: number | null,
): Promise<void> {
  const artefact = await putAdapter(ctx.blobs, lease.projectId, job.base_model, trained);
  const result: JobResult = {
    steps: trained.steps,
    first_loss: trained.firstLoss,
    last_loss: trained.lastLoss,
    eval_loss: evalLoss,
    trained_tokens: trained.trainedTokens,
    examples: trained.examples,
    skipped_too_long: trained.skippedTooLong,
    tokens_per_second: trained.tokensPerSecond,
    peak_memory_mb: trained.peakRssBytes / MIB,
    seconds: trained.seconds,
    ...(job.source === 'openai' ? { result_file: await registerResultFile(ctx, lease, job) } : {}),
  };
  const oldState = await ctx.pg.withTenant(
    lease.projectId,
    async (tx) => {
      await assertLease(tx, 'training_jobs', lease);
      const current = await lockJobById(tx, job.id);
      if (!current || isOver(current.status)) return null;
      await lockSlot(tx, job.slot);
      const checkpointId = newId();
      const { slug } = await projectState(tx, ctx);
      const checkpoint = await insertCheckpoint(tx, {
        id: checkpointId,
        job_id: job.id,
        slot: job.slot,
        origin: 'trained',
        version: `v${(await countTrained(tx, job.slot)) + 1}`,
        storage_key: artefact.key,
        url: null,
        sha256: artefact.sha256,
        base_model: job.base_model,
        model_name: fineTunedModelName({
          baseModel: job.base_model,
          projectSlug: slug,
          suffix: job.suffix,
          checkpointId,
        }),
        step: trained.steps,
        epoch: settings.hyper.epochs,
        avg_reward: null,
        metrics: { first_loss: result.first_loss, last_loss: result.last_loss, eval_loss: evalLoss },
        lineage: {
          job_id: job.id,
          request_id: job.request_id,
          start_from: job.start_from,
          reference: job.reference,
          ...(job.dataset_version_id === null ? {} : { dataset_version_id: job.dataset_version_id }),
          ...(job.dataset === null ? {} : { dataset_hash: job.dataset.content_hash }),
        },
        manifest: {
          ...trained.manifest,
          method: job.method,
          seed: job.seed,
          dataset_version_id: job.dataset_version_id,
          dataset_hash: job.dataset?.content_hash ?? null,
        },
      });
      if (!checkpoint) return null;
      await settle(ctx, tx, current, checkpoint, result);
      const key = current.state_key;
      return key === null || (await isStateShared(tx, key, job.id)) ? null : key;
    },
    { actor: 'service:trainer' },
  );
  if (oldState !== null) await ctx.blobs.delete(oldState);
}

async function settle(
  ctx: TrainerContext,
  tx: Parameters<typeof updateJob>[0],
  job: JobRow,
  checkpoint: CheckpointRow,
  result: JobResult,
): Promise<void> {
  const now = ctx.clock();
  await updateJob(tx, job.id, {
    status: job.evaluate ? 'evaluating' : 'completed',
    result,
    checkpoint_id: checkpoint.id,
    trained_at: now,
    state_key: null,
    state_step: null,
    ...(job.evaluate ? {} : { completed_at: now }),
  });
  if (job.evaluate) {
    await insertEvaluation(tx, { id: newId(), job_id: job.id, checkpoint_id: checkpoint.id, slot: job.slot });
  }
  await insertMessage(tx, job.id, 'info', `New fine-tuned model created: ${checkpoint.model_name}.`);
  const shared = { subject: job.id, correlationId: job.correlation_id };
  await emitAll(tx, [
    pendingEvent(checkpointCreated, {
      ...shared,
      subject: checkpoint.id,
      data: {
        checkpoint_id: checkpoint.id,
        job_id: job.id,
        base_model: job.base_model,
        storage_key: checkpoint.storage_key,
        sha256: checkpoint.sha256 ?? '',
        step: result.steps,
        epoch: checkpoint.epoch,
        model_name: checkpoint.model_name ?? '',
      },
    }),
    pendingEvent(trainingCompleted, {
      ...shared,
      data: {
        job_id: job.id,
        request_id: job.request_id,
        checkpoint_id: checkpoint.id,
        steps: result.steps,
        first_loss: result.first_loss,
        last_loss: result.last_loss,
        tokens_per_second: result.tokens_per_second,
        peak_memory_mb: result.peak_memory_mb,
      },
    }),
  ]);
}
