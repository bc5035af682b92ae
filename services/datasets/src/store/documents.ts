import type { DocumentChunk, Document } from '@tuneloop/contracts/ingest/documents';
import type { Tx } from '@tuneloop/runtime/pg/database';

export interface DocumentRow {
  readonly id: string;
  readonly version: number;
  readonly name: string;
  readonly title: string | null;
  readonly cluster_id: string;
  readonly provenance: Document['provenance'];
}

/** A chunk that may become examples, with its document. */
export interface UsableChunk {
  readonly id: string;
  readonly document_id: string;
  readonly ordinal: number;
  readonly heading_path: readonly string[];
  readonly text: string;
  readonly name: string;
  readonly title: string | null;
  readonly cluster_id: string;
  /** Neither the chunk before nor the one after stands under the same headings. */
  readonly whole_section: boolean;
}

/** Held shared by whoever makes a version, and alone by whoever erases: no example of an erased item slips in between. */
export async function lockErasures(tx: Tx, mode: 'shared' | 'alone'): Promise<void> {
  const lock = mode === 'shared' ? 'pg_advisory_xact_lock_shared' : 'pg_advisory_xact_lock';
  await tx.execute(`SELECT ${lock}(hashtextextended($1, 0))`, [`datasets.erase:${tx.projectId}`]);
}

export async function isErased(tx: Tx, kind: 'image' | 'document', id: string): Promise<boolean> {
  return (await tx.one('SELECT 1 FROM tombstones WHERE kind = $1 AND id = $2', [kind, id])) !== undefined;
}

export async function insertTombstone(tx: Tx, kind: 'image' | 'document', id: string): Promise<void> {
  await tx.execute('INSERT INTO tombstones (project_id, kind, id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING', [
    tx.projectId,
    kind,
    id,
  ]);
}

export async function findDocumentRows(tx: Tx, ids: readonly string[]): Promise<DocumentRow[]> {
  return tx.query<DocumentRow>(
    'SELECT id, version, name, title, cluster_id, provenance FROM documents WHERE id = ANY($1)',
    [ids],
  );
}

/** A document as it is now, its chunks in the place of those that were known. */
export async function replaceDocument(tx: Tx, row: DocumentRow, chunks: readonly DocumentChunk[]): Promise<void> {
  await tx.execute(
    `INSERT INTO documents (project_id, id, version, name, title, cluster_id, provenance) VALUES ($1, $2, $3, $4, $5, $6, $7)
     ON CONFLICT (project_id, id) DO UPDATE SET version = EXCLUDED.version, name = EXCLUDED.name,
       title = EXCLUDED.title, cluster_id = EXCLUDED.cluster_id, provenance = EXCLUDED.provenance`,
    [tx.projectId, row.id, row.version, row.name, row.title, row.cluster_id, JSON.stringify(row.provenance)],
  );
  // Nothing of a chunk that is gone stays behind: an erasure would not find it.
  await tx.execute(
    `DELETE FROM chunk_pairs WHERE chunk_id IN (SELECT id FROM chunks WHERE document_id = $1) AND NOT chunk_id = ANY($2)`,
    [row.id, chunks.map((chunk) => chunk.id)],
  );
  await tx.execute('DELETE FROM chunks WHERE document_id = $1', [row.id]);
  await tx.execute(
    `INSERT INTO chunks (project_id, id, document_id, ordinal, heading_path, text, overlap_chars, quality, flagged, duplicate)
     SELECT $1, id, document_id, ordinal, heading_path, text, overlap_chars, quality, flags <> '[]'::jsonb, is_duplicate
     FROM jsonb_to_recordset($2::jsonb) AS c(id uuid, document_id uuid, ordinal int, heading_path jsonb, text text,
       overlap_chars int, quality float8, flags jsonb, is_duplicate bool)`,
    [tx.projectId, JSON.stringify(chunks)],
  );
}

/** Takes away a document, its chunks and what was written from them. */
export async function deleteDocumentRows(tx: Tx, id: string): Promise<void> {
  await tx.execute('DELETE FROM chunk_pairs WHERE chunk_id IN (SELECT id FROM chunks WHERE document_id = $1)', [id]);
  await tx.execute('DELETE FROM chunks WHERE document_id = $1', [id]);
  await tx.execute('DELETE FROM documents WHERE id = $1', [id]);
}

export interface ChunkChoice {
  readonly documentIds: readonly string[];
  readonly minQuality: number;
  readonly includeDuplicates: boolean;
}

/** The next chunks that may become examples, in the order of documents and within them. Flagged ones never do. */
export async function listUsableChunks(
  tx: Tx,
  choice: ChunkChoice,
  after: { documentId: string; ordinal: number } | null,
  limit: number,
): Promise<UsableChunk[]> {
  return tx.query<UsableChunk>(
    `SELECT c.id, c.document_id, c.ordinal, c.heading_path, substr(c.text, c.overlap_chars + 1) AS text, d.name, d.title,
       d.cluster_id, NOT EXISTS (SELECT 1 FROM chunks o WHERE o.document_id = c.document_id
         AND o.ordinal IN (c.ordinal - 1, c.ordinal + 1) AND o.heading_path = c.heading_path) AS whole_section
     FROM chunks c JOIN documents d ON d.id = c.document_id
     WHERE c.document_id = ANY($1) AND NOT c.flagged AND c.quality >= $2 AND ($3 OR NOT c.duplicate)
       AND ($4::uuid IS NULL OR (c.document_id, c.ordinal) > ($4, $5))
     ORDER BY c.document_id, c.ordinal LIMIT $6`,
    [
      choice.documentIds,
      choice.minQuality,
      choice.includeDuplicates,
      after?.documentId ?? null,
      after?.ordinal ?? 0,
      limit,
    ],
  );
}

export interface LeftOut {
  readonly reason: 'flagged' | 'low_quality' | 'duplicate_chunk';
  readonly count: number;
  readonly examples: string[];
}

/** Chunks that the choice leaves out, by the first reason that holds. */
export async function countLeftOut(tx: Tx, choice: ChunkChoice): Promise<LeftOut[]> {
  return tx.query<LeftOut>(
    `SELECT reason, count(*)::int AS count, (array_agg(id::text ORDER BY id))[1:10] AS examples FROM (
       SELECT id, CASE WHEN flagged THEN 'flagged' WHEN NOT $3 AND duplicate THEN 'duplicate_chunk'
         WHEN quality < $2 THEN 'low_quality' END AS reason
       FROM chunks WHERE document_id = ANY($1)) c
     WHERE reason IS NOT NULL GROUP BY reason ORDER BY reason`,
    [choice.documentIds, choice.minQuality, choice.includeDuplicates],
  );
}

export async function findPairs<P>(tx: Tx, recipe: string, chunkIds: readonly string[]): Promise<Map<string, P>> {
  const rows = await tx.query<{ chunk_id: string; pairs: P }>(
    'SELECT chunk_id, pairs FROM chunk_pairs WHERE recipe = $1 AND chunk_id = ANY($2)',
    [recipe, chunkIds],
  );
  return new Map(rows.map((row) => [row.chunk_id, row.pairs]));
}

/** Only for chunks that are there still. */
export async function insertPairs(
  tx: Tx,
  recipe: string,
  written: readonly { readonly chunkId: string; readonly pairs: unknown }[],
): Promise<void> {
  await tx.execute(
    `INSERT INTO chunk_pairs (project_id, chunk_id, recipe, pairs)
     SELECT $1, w."chunkId", $2, w.pairs FROM jsonb_to_recordset($3::jsonb) AS w("chunkId" uuid, pairs jsonb)
     WHERE EXISTS (SELECT 1 FROM chunks c WHERE c.id = w."chunkId") ON CONFLICT DO NOTHING`,
    [tx.projectId, recipe, JSON.stringify(written)],
  );
}

export async function findChunkPlaces(
  tx: Tx,
  ids: readonly string[],
): Promise<{ id: string; ordinal: number; heading_path: string[] }[]> {
  return tx.query('SELECT id, ordinal, heading_path FROM chunks WHERE id = ANY($1) ORDER BY ordinal', [ids]);
}
