import { trainingRequested } from '@tuneloop/contracts/scheduler/events';
import { AppError } from '@tuneloop/runtime/errors';
import { defineHandler } from '@tuneloop/runtime/inbox/handler';
import type { TrainerContext } from '../config.ts';
import { lockRequest, takeEarlyAnswer } from '../store/earlyDatasets.ts';
import { answerDataset } from '../usecases/answerDataset.ts';
import { createJob, requireTrainable } from '../usecases/createJob.ts';
import { failJob } from '../usecases/settleJob.ts';
import type { WakeUp } from './wakeUp.ts';

const PRIORITIES = { low: -1, normal: 0, high: 1 } as const;

/** One turn of the loop begins: the job waits for its dataset, or takes the one that is there already. */
export function onTrainingRequested(wake: WakeUp) {
  return defineHandler<typeof trainingRequested, TrainerContext>({
    name: 'on_training_requested',
    event: trainingRequested,
    handle: async (tx, { data, correlationId }, ctx) => {
      await lockRequest(tx, data.request_id);
      const job = await createJob(tx, {
        source: 'loop',
        status: 'waiting_for_dataset',
        request_id: data.request_id,
        correlation_id: correlationId ?? data.run_id,
        method: data.method,
        slot: data.slot,
        base_model: data.base_model,
        start_from: data.start_from,
        reference: data.reference,
        seed: data.seed,
        suffix: data.slot,
        priority: PRIORITIES[data.priority],
        evaluate: true,
        hyperparameters: data.hyperparameters,
        requested_by: data.requested_by,
      });
      if (!job) return;
      try {
        await requireTrainable(tx, ctx, job);
      } catch (error) {
        if (!(error instanceof AppError)) throw error;
        await failJob(tx, job, { code: error.code, message: error.message, param: error.field ?? null }, ctx.clock());
        return;
      }
      const early = await takeEarlyAnswer(tx, data.request_id);
      if (early) await answerDataset(tx, job, early, ctx.clock());
      tx.afterCommit(() => wake.wakeTraining());
    },
  });
}
