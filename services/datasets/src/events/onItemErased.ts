import { itemErased } from '@tuneloop/contracts/ingest/events';
import { defineHandler } from '@tuneloop/runtime/inbox/handler';
import type { DatasetsContext } from '../config.ts';
import { deleteDocumentRows, insertTombstone, lockErasures } from '../store/documents.ts';
import { eraseVersionRows } from '../store/erasures.ts';

/** Everything made from an erased item leaves every version; the tombstone keeps it from coming back. */
export const onItemErased = defineHandler({
  name: 'on_item_erased',
  event: itemErased,
  handle: async (tx, event, _ctx: DatasetsContext) => {
    const { kind, id } = event.data;
    await lockErasures(tx, 'alone');
    await insertTombstone(tx, kind, id);
    if (kind === 'document') await deleteDocumentRows(tx, id);
    await eraseVersionRows(tx, kind, id);
  },
});
