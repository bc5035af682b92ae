import { documentChunked } from '@tuneloop/contracts/ingest/events';
import { emitMany } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { BumpedDocument } from '../store/documents.ts';

/** Tells of documents whose chunks or cluster are new or changed. */
export async function tellChanged(tx: Tx, documents: readonly BumpedDocument[]): Promise<void> {
  await emitMany(tx, documentChunked, documents.map(chunkedEvent));
}

function chunkedEvent(document: BumpedDocument) {
  const { id, version, chunks, cluster_id: clusterId } = document;
  return {
    subject: id,
    aggregateVersion: version,
    data: {
      document_id: id,
      chunks: chunks.total,
      flagged: chunks.flagged,
      duplicates: chunks.duplicates,
      version,
      cluster_id: clusterId,
    },
  };
}
