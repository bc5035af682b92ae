import { datasetFailed, datasetInsufficient, datasetReady } from '@tuneloop/contracts/datasets/events';
import { defineHandler, type MessageHandler } from '@tuneloop/runtime/inbox/handler';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { TrainerContext } from '../config.ts';
import type { DatasetAnswer } from '../domain/datasetAnswer.ts';
import { keepEarlyAnswer, lockRequest } from '../store/earlyDatasets.ts';
import { lockJobByRequest } from '../store/jobs.ts';
import { answerDataset } from '../usecases/answerDataset.ts';
import type { WakeUp } from './wakeUp.ts';

/** The three answers to a training request. One that comes before its request is kept for it. */
export function datasetHandlers(wake: WakeUp): MessageHandler<TrainerContext>[] {
  const apply = async (tx: Tx, ctx: TrainerContext, answer: DatasetAnswer): Promise<void> => {
    const requestId = answer.data.request_id;
    await lockRequest(tx, requestId);
    const job = await lockJobByRequest(tx, requestId);
    if (job) await answerDataset(tx, job, answer, ctx.clock());
    else await keepEarlyAnswer(tx, requestId, answer);
    tx.afterCommit(() => wake.wakeTraining());
  };
  return [
    defineHandler<typeof datasetReady, TrainerContext>({
      name: 'on_dataset_ready',
      event: datasetReady,
      handle: (tx, { data }, ctx) => apply(tx, ctx, { kind: 'ready', data }),
    }),
    defineHandler<typeof datasetInsufficient, TrainerContext>({
      name: 'on_dataset_insufficient',
      event: datasetInsufficient,
      handle: (tx, { data }, ctx) => apply(tx, ctx, { kind: 'insufficient', data }),
    }),
    defineHandler<typeof datasetFailed, TrainerContext>({
      name: 'on_dataset_failed',
      event: datasetFailed,
      handle: (tx, { data }, ctx) => apply(tx, ctx, { kind: 'failed', data }),
    }),
  ];
}
