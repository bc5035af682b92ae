import { itemErased } from '@tuneloop/contracts/ingest/events';
import { bandKeys, minHash, shinglesOf } from '@tuneloop/metrics/minhash';
import { emit } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { insertBlobSweep } from '../store/blobs.ts';
import { findRepetitions, insertBands, lockChunks, promoteChunks } from '../store/chunks.ts';
import { type BumpedDocument, bumpDocuments, deleteDocument } from '../store/documents.ts';
import { deleteFetch } from '../store/fetches.ts';
import { insertTombstone, isErased } from '../store/tombstones.ts';
import { tellChanged } from './tellChanged.ts';

/**
 * Takes a document away for good, its chunks with it. Its file goes after the commit, unless another document has the
 * same bytes. False when there was none; true again for one that is erased already.
 */
export async function eraseDocument(tx: Tx, id: string, requestedBy: string, at: Date): Promise<boolean> {
  await lockChunks(tx);
  const changed = await releaseRepetitions(tx, id);
  const row = await deleteDocument(tx, id);
  if (!row) return isErased(tx, 'document', id);
  await insertTombstone(tx, 'document', id);
  if (row.intake_id !== null) {
    await insertTombstone(tx, 'intake', row.intake_id);
    await deleteFetch(tx, row.intake_id);
  }
  await insertBlobSweep(tx, id, row.blob_key, at);
  await emit(tx, itemErased, {
    subject: id,
    aggregateVersion: row.version + 1,
    data: { kind: 'document', id, requested_by: requestedBy },
  });
  await tellChanged(tx, changed);
  return true;
}

/**
 * Before a document's chunks go: the first chunk elsewhere that repeated one of them stands for the others from now on.
 * Returns the documents whose chunks were changed by that.
 */
export async function releaseRepetitions(tx: Tx, documentId: string): Promise<BumpedDocument[]> {
  const orphans = await findRepetitions(tx, documentId);
  if (orphans.length === 0) return [];
  const heirs = [...Map.groupBy(orphans, (orphan) => orphan.duplicate_of).values()].map((group) => group[0]!);
  await promoteChunks(
    tx,
    heirs.map((heir) => ({ gone: heir.duplicate_of, heir: heir.id })),
  );
  await insertBands(
    tx,
    heirs.flatMap(({ id, text }) => {
      const shingles = shinglesOf(text);
      return shingles.size === 0 ? [] : [{ id, keys: bandKeys(minHash(shingles)) }];
    }),
  );
  return bumpDocuments(tx, [...new Set(orphans.map((orphan) => orphan.document_id))]);
}
