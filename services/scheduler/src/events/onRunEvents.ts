import { datasetFailed, datasetInsufficient, datasetReady } from '@tuneloop/contracts/datasets/events';
import type { EventContract, EventData } from '@tuneloop/contracts/event';
import {
  promotionDecided,
  trainingCancelled,
  trainingCompleted,
  trainingFailed,
  trainingStarted,
} from '@tuneloop/contracts/trainer/events';
import { defineHandler, type MessageHandler } from '@tuneloop/runtime/inbox/handler';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { deadlinesOf, type SchedulerContext } from '../config.ts';
import { advanceRun, type RunEvent } from '../domain/run.ts';
import type { Ticker } from '../jobs/ticker.ts';
import { lockOpenRun, markRequest, updateRun } from '../store/retraining.ts';

/** The handlers that move a run along: each turns one event of another service into one step of the run. */
export function runHandlers(ticker: Ticker): MessageHandler<SchedulerContext>[] {
  const step = <E extends EventContract>(
    name: string,
    event: E,
    toStep: (data: EventData<E>) => { requestId: string | null; event: RunEvent },
  ): MessageHandler<SchedulerContext, EventData<E>> =>
    defineHandler({
      name,
      event,
      handle: async (tx, received, ctx: SchedulerContext) => {
        const { requestId, event: runEvent } = toStep(received.data);
        if (requestId !== null) await applyStep(tx, ctx, ticker, requestId, runEvent);
      },
    });

  return [
    step('on_dataset_ready', datasetReady, (d) => ({
      requestId: d.request_id,
      event: { type: 'dataset_ready', examples: d.examples, versionId: d.dataset_version_id },
    })),
    step('on_dataset_insufficient', datasetInsufficient, (d) => ({
      requestId: d.request_id,
      event: { type: 'dataset_insufficient', examples: d.examples, reason: d.reason },
    })),
    step('on_dataset_failed', datasetFailed, (d) => ({
      requestId: d.request_id,
      event: { type: 'failed', reason: `The dataset could not be built: ${d.reason}` },
    })),
    step('on_training_started', trainingStarted, (d) => ({
      requestId: d.request_id,
      event: { type: 'training_started', jobId: d.job_id },
    })),
    step('on_training_completed', trainingCompleted, (d) => ({
      requestId: d.request_id,
      event: { type: 'training_completed', jobId: d.job_id, checkpointId: d.checkpoint_id },
    })),
    step('on_training_failed', trainingFailed, (d) => ({
      requestId: d.request_id,
      event: { type: 'failed', reason: `Training failed: ${d.reason}` },
    })),
    step('on_training_cancelled', trainingCancelled, (d) => ({
      requestId: d.request_id,
      event: { type: 'failed', reason: `Training was cancelled by ${d.cancelled_by}.` },
    })),
    step('on_promotion_decided', promotionDecided, (d) => ({
      requestId: d.request_id,
      event: { type: 'decided', decision: d.decision, reason: d.reason, checkpointId: d.checkpoint_id },
    })),
  ];
}

async function applyStep(
  tx: Tx,
  ctx: SchedulerContext,
  ticker: Ticker,
  requestId: string,
  event: RunEvent,
): Promise<void> {
  const run = await lockOpenRun(tx, { requestId });
  if (!run) return;
  const change = advanceRun(run, event, ctx.clock(), deadlinesOf(ctx.config));
  if (!change) return;
  await updateRun(tx, run.id, change);
  if (change.stage !== 'done') return;
  await markRequest(tx, requestId, 'completed', run.id, ctx.clock());
  // The slot is free: the next request need not wait for the poll.
  tx.afterCommit(() => ticker.wake());
}
