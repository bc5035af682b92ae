import type { DocumentChunk } from '@tuneloop/contracts/ingest/documents';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { MeasuredChunk } from '../extract/protocol.ts';

export interface ChunkRow extends Omit<DocumentChunk, 'is_duplicate'> {
  readonly similarity: number | null;
}

/** Candidates that one chunk is compared with: those that share most bands. */
const MAX_CANDIDATES = 16;
const COLUMNS = `id, document_id, ordinal, heading_path, text, overlap_chars, tokens, page_from, page_to, quality,
  quality_parts, flags, duplicate_of, similarity`;

export interface NewChunk extends MeasuredChunk {
  readonly id: string;
  readonly ordinal: number;
  readonly duplicateOf: string | null;
  readonly similarity: number | null;
}

/** Serialises the search for near-duplicates in a project, so that two that arrive together do meet. */
export async function lockChunks(tx: Tx): Promise<void> {
  await tx.query(`SELECT pg_advisory_xact_lock(hashtextextended('ingest.chunks.' || $1::text, 0))`, [tx.projectId]);
}

/** Chunks with the bands of those that repeat no other. */
export async function insertChunks(tx: Tx, documentId: string, chunks: readonly NewChunk[]): Promise<void> {
  await tx.execute(
    `INSERT INTO chunks (id, project_id, document_id, ordinal, heading_path, text, overlap_chars, tokens, page_from,
       page_to, text_hash, quality, quality_parts, flags, duplicate_of, similarity)
     SELECT id, $1, $2, ordinal, "headingPath", text, "overlapChars", tokens, "pageFrom", "pageTo",
       decode("textHash", 'hex'), quality, "qualityParts", flags, "duplicateOf", similarity
     FROM jsonb_to_recordset($3::jsonb) AS r(id uuid, ordinal int, "headingPath" jsonb, text text, "overlapChars" int,
       tokens int, "pageFrom" int, "pageTo" int, "textHash" text, quality float8, "qualityParts" jsonb, flags jsonb,
       "duplicateOf" uuid, similarity float8)`,
    [tx.projectId, documentId, JSON.stringify(chunks)],
  );
  await insertBands(
    tx,
    chunks.filter((chunk) => chunk.duplicateOf === null),
  );
}

export async function insertBands(tx: Tx, chunks: readonly { id: string; keys: readonly number[] }[]): Promise<void> {
  const rows = chunks.flatMap(({ id, keys }) => keys.map((key) => ({ id, key })));
  await tx.execute(
    `INSERT INTO chunk_bands (project_id, band_key, chunk_id)
     SELECT $1, key, id FROM unnest($2::bigint[], $3::uuid[]) AS b(key, id) ON CONFLICT DO NOTHING`,
    [tx.projectId, rows.map((row) => row.key), rows.map((row) => row.id)],
  );
}

export interface Candidate {
  /** Place of the asking chunk in the list. */
  readonly i: number;
  readonly id: string;
  readonly document_id: string;
  readonly cluster_id: string | null;
  readonly text: string;
}

/** Chunks of the project that may repeat one of these: same words, or a shared band; the likeliest first. */
export async function findCandidates(
  tx: Tx,
  chunks: readonly { readonly keys: readonly number[]; readonly textHash: string }[],
): Promise<Candidate[]> {
  const bands = chunks.flatMap(({ keys }, i) => keys.map((key) => ({ i, key })));
  return tx.query<Candidate>(
    `WITH shared AS (
       SELECT n.i, b.chunk_id, count(*) AS bands
       FROM unnest($2::int[], $3::bigint[]) AS n(i, key)
       JOIN chunk_bands b ON b.project_id = $1 AND b.band_key = n.key GROUP BY n.i, b.chunk_id
       UNION ALL
       SELECT n.i, c.id, 1000 FROM unnest($4::int[], $5::text[]) AS n(i, hash)
       JOIN chunks c ON c.project_id = $1 AND c.text_hash = decode(n.hash, 'hex') AND c.duplicate_of IS NULL
     ), ranked AS (
       SELECT i, chunk_id, row_number() OVER (PARTITION BY i ORDER BY max(bands) DESC, chunk_id) AS place
       FROM shared GROUP BY i, chunk_id
     )
     SELECT r.i, c.id, c.document_id, d.cluster_id, substr(c.text, c.overlap_chars + 1) AS text
     FROM ranked r JOIN chunks c ON c.id = r.chunk_id JOIN documents d ON d.id = c.document_id
     WHERE r.place <= $6 ORDER BY r.i, r.place`,
    [
      tx.projectId,
      bands.map((band) => band.i),
      bands.map((band) => band.key),
      chunks.map((_, i) => i),
      chunks.map((chunk) => chunk.textHash),
      MAX_CANDIDATES,
    ],
  );
}

export async function deleteChunks(tx: Tx, documentId: string): Promise<void> {
  await tx.execute('DELETE FROM chunks WHERE document_id = $1', [documentId]);
}

export interface Orphan {
  readonly id: string;
  readonly document_id: string;
  readonly duplicate_of: string;
  readonly text: string;
}

/** Chunks of other documents that repeat a chunk of this one, the earliest document first: ids of chunks have no order. */
export async function findRepetitions(tx: Tx, documentId: string): Promise<Orphan[]> {
  return tx.query<Orphan>(
    `SELECT c.id, c.document_id, c.duplicate_of, substr(c.text, c.overlap_chars + 1) AS text
     FROM chunks own JOIN chunks c ON c.duplicate_of = own.id
     WHERE own.document_id = $1 AND c.document_id <> $1 ORDER BY c.document_id, c.ordinal`,
    [documentId],
  );
}

/** The first that repeated a chunk which is gone stands for the others now. */
export async function promoteChunks(
  tx: Tx,
  heirs: readonly { readonly gone: string; readonly heir: string }[],
): Promise<void> {
  await tx.execute(
    `UPDATE chunks c SET duplicate_of = CASE WHEN c.id = h.heir THEN NULL ELSE h.heir END,
       similarity = CASE WHEN c.id = h.heir THEN NULL ELSE c.similarity END
     FROM unnest($1::uuid[], $2::uuid[]) AS h(gone, heir) WHERE c.duplicate_of = h.gone`,
    [heirs.map((item) => item.gone), heirs.map((item) => item.heir)],
  );
}

export interface ChunkFilter {
  readonly min_quality?: number | undefined;
  readonly flagged?: boolean | undefined;
  readonly duplicates?: boolean | undefined;
}

/** In reading order, after an ordinal. */
export async function listChunks(
  tx: Tx,
  documentId: string,
  filter: ChunkFilter,
  after: number,
  limit: number,
): Promise<ChunkRow[]> {
  return tx.query<ChunkRow>(
    `SELECT ${COLUMNS} FROM chunks
     WHERE document_id = $1 AND ordinal > $2 AND ($4::float8 IS NULL OR quality >= $4)
       AND ($5::bool IS NULL OR (flags <> '[]'::jsonb) = $5) AND ($6::bool IS NULL OR (duplicate_of IS NOT NULL) = $6)
     ORDER BY ordinal LIMIT $3`,
    [documentId, after, limit, filter.min_quality ?? null, filter.flagged ?? null, filter.duplicates ?? null],
  );
}
