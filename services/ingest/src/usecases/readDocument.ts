import { deterministicId } from '@tuneloop/runtime/ids';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { clustersOf, findRepeated } from '../domain/duplicates.ts';
import type { Extracted } from '../extractor.ts';
import { deleteChunks, findCandidates, insertChunks, lockChunks } from '../store/chunks.ts';
import { type DocumentOverview, findDocumentById, joinClusters, settleReadDocument } from '../store/documents.ts';
import { releaseRepetitions } from './eraseDocument.ts';
import { tellChanged } from './tellChanged.ts';

export interface ReadWith {
  readonly tokenizer: string;
  readonly chunkTokens: number;
}

/** Stores what was read of a document: its chunks, which of them repeat others, and where its cluster is. */
export async function storeChunks(tx: Tx, row: DocumentOverview, read: Extracted, made: ReadWith): Promise<void> {
  // From here to the commit one document of the project at a time; reading it, the slow part, is done.
  await lockChunks(tx);
  // Read anew: what repeated the old chunks is looked at first, then they are gone.
  const released = await releaseRepetitions(tx, row.id);
  await deleteChunks(tx, row.id);
  const chunks = read.chunks.map((chunk, i) => ({
    ...chunk,
    id: deterministicId('chunk', row.id, String(row.version), String(i + 1)),
    ordinal: i + 1,
    own: chunk.text.slice(chunk.overlapChars),
  }));
  const repeated = findRepeated(chunks, await findCandidates(tx, chunks));
  await insertChunks(
    tx,
    row.id,
    chunks.map(({ own: _own, ...chunk }, i) => ({ ...chunk, ...repeated[i]! })),
  );
  const own = row.cluster_id ?? deterministicId('document-cluster', tx.projectId ?? '', row.sha256);
  const found = clustersOf(repeated);
  const clusterId = found[0] ?? own;
  const others = [...new Set([...found.slice(1), ...(row.cluster_id === null ? [] : [row.cluster_id])])].filter(
    (other) => other !== clusterId,
  );
  await settleReadDocument(tx, row.id, { ...read, ...made, clusterId });
  const moved = others.length === 0 ? [] : await joinClusters(tx, clusterId, others);
  const stored = (await findDocumentById(tx, row.id))!;
  const touched = new Map([...released, ...moved, { ...stored, cluster_id: clusterId }].map((item) => [item.id, item]));
  await tellChanged(tx, [...touched.values()]);
}
