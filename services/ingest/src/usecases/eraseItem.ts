import { itemErased } from '@tuneloop/contracts/ingest/events';
import { emit } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { insertBlobSweep } from '../store/blobs.ts';
import { deleteFetch } from '../store/fetches.ts';
import { deleteImage, forgetDuplicateOf } from '../store/images.ts';
import { insertTombstone, isErased } from '../store/tombstones.ts';

/** Aggregate version of an erasure: the second and last thing that happens to an item. */
const ERASED_VERSION = 2;

/**
 * Takes a picture away for good. Its blob goes after the commit, unless another picture has the same bytes.
 * False when there was none; true again for one that is erased already.
 */
export async function eraseImage(tx: Tx, id: string, requestedBy: string, at: Date): Promise<boolean> {
  const row = await deleteImage(tx, id);
  if (!row) return isErased(tx, 'image', id);
  await forgetDuplicateOf(tx, id);
  await insertTombstone(tx, 'image', id);
  if (row.intake_id !== null) {
    await insertTombstone(tx, 'intake', row.intake_id);
    await deleteFetch(tx, row.intake_id);
  }
  await insertBlobSweep(tx, id, row.blob_key, at);
  await emit(tx, itemErased, {
    subject: id,
    aggregateVersion: ERASED_VERSION,
    data: { kind: 'image', id, requested_by: requestedBy },
  });
  return true;
}
