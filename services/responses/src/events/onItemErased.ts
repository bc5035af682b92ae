import { itemErased } from '@tuneloop/contracts/ingest/events';
import { defineHandler } from '@tuneloop/runtime/inbox/handler';
import type { ResponsesContext } from '../context.ts';
import { tellDeleted } from '../records.ts';
import { deletePromptsOfImage, lockFor } from '../store/prompts.ts';
import { deleteResponsesOfImage, insertTombstones } from '../store/responses.ts';

const BATCH = 500;

/** Everything made from an erased picture goes, and a mark stays, so that a replay of its upload makes nothing anew. */
export function onItemErased() {
  return defineHandler<typeof itemErased, ResponsesContext>({
    name: 'on_item_erased',
    event: itemErased,
    handle: async (tx, event) => {
      const { kind, id } = event.data;
      // Nothing here is made from documents.
      if (kind !== 'image') return;
      await lockFor(tx, `image ${id}`);
      await insertTombstones(tx, 'image', [id]);
      // The prompt first, with its job: it waits for a worker that is storing, whose answers are then seen below.
      await deletePromptsOfImage(tx, id);
      for (;;) {
        const deleted = await deleteResponsesOfImage(tx, id, BATCH);
        if (deleted.length === 0) return;
        await tellDeleted(tx, deleted, 'erased', { correlationId: event.correlationId, causationId: event.id });
      }
    },
  });
}
