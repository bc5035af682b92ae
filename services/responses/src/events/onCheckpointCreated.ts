import { checkpointCreated } from '@tuneloop/contracts/trainer/events';
import { defineHandler } from '@tuneloop/runtime/inbox/handler';
import type { ResponsesContext } from '../context.ts';
import { insertTunedModel } from '../store/routing.ts';

/** A checkpoint never changes, so the first telling is the whole truth; a deleted name stays deleted. */
export function onCheckpointCreated() {
  return defineHandler<typeof checkpointCreated, ResponsesContext>({
    name: 'on_checkpoint_created',
    event: checkpointCreated,
    handle: async (tx, event) => insertTunedModel(tx, event.data),
  });
}
