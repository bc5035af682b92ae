import { trainingRequested } from '@tuneloop/contracts/scheduler/events';
import { defineHandler, type MessageHandler } from '@tuneloop/runtime/inbox/handler';
import type { EventData } from '@tuneloop/contracts/event';
import type { DatasetsContext } from '../config.ts';
import { type Freezer, requestTrainingFreeze } from '../usecases/requestFreeze.ts';

/** The kind of data follows from the method; methods that share a kind name it in the spec. */
function kindOf(data: EventData<typeof trainingRequested>): string {
  return data.method === 'sft' || data.method === 'dpo' ? data.method : data.dataset.kind;
}

export function onTrainingRequested(freezer: Freezer): MessageHandler<DatasetsContext> {
  return defineHandler({
    name: 'on_training_requested',
    event: trainingRequested,
    handle: async (tx, event, _ctx: DatasetsContext) => {
      const { data } = event;
      await requestTrainingFreeze(tx, freezer, {
        requestId: data.request_id,
        kind: kindOf(data),
        spec: { ...data.dataset, slot: data.slot },
        correlationId: event.correlationId,
        causationId: event.id,
        requestedBy: data.requested_by,
      });
    },
  });
}
