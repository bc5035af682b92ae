import type { Document } from '@tuneloop/contracts/ingest/documents';
import type { provenance } from '@tuneloop/contracts/ingest/events';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { z } from 'zod';

export interface DocumentRow {
  readonly id: string;
  readonly session_id: string | null;
  readonly intake_id: string | null;
  readonly name: string;
  readonly blob_key: string;
  readonly sha256: string;
  readonly content_type: string;
  readonly size: number;
  readonly metadata: Record<string, unknown>;
  readonly provenance: z.output<typeof provenance>;
  readonly chunk_tokens: number | null;
  readonly overlap_tokens: number;
}

/** A document with what reading it gave. */
export interface DocumentOverview extends DocumentRow {
  readonly status: Document['status'];
  readonly code: string | null;
  readonly reason: string | null;
  readonly version: number;
  readonly title: string | null;
  readonly pages: number | null;
  readonly chars: number | null;
  readonly tokenizer: string | null;
  readonly cluster_id: string | null;
  readonly attempts: number;
  readonly created_at: Date;
  readonly extracted_at: Date | null;
  readonly chunks: Document['chunks'];
}

export async function insertDocument(tx: Tx, row: DocumentRow): Promise<void> {
  await tx.execute(
    `INSERT INTO documents (id, project_id, session_id, intake_id, name, blob_key, sha256, content_type, size, metadata,
       provenance, chunk_tokens, overlap_tokens) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
    [
      row.id,
      tx.projectId,
      row.session_id,
      row.intake_id,
      row.name,
      row.blob_key,
      row.sha256,
      row.content_type,
      row.size,
      JSON.stringify(row.metadata),
      JSON.stringify(row.provenance),
      row.chunk_tokens,
      row.overlap_tokens,
    ],
  );
}

const OVERVIEW = `
  SELECT d.*, counted.chunks FROM documents d CROSS JOIN LATERAL (
    SELECT jsonb_build_object('total', count(*), 'flagged', count(*) FILTER (WHERE c.flags <> '[]'::jsonb),
      'duplicates', count(*) FILTER (WHERE c.duplicate_of IS NOT NULL)) AS chunks
    FROM chunks c WHERE c.document_id = d.id) counted`;

export async function findDocumentById(tx: Tx, id: string): Promise<DocumentOverview | undefined> {
  return tx.one<DocumentOverview>(`${OVERVIEW} WHERE d.id = $1`, [id]);
}

export interface DocumentFilter {
  readonly session_id?: string | undefined;
  readonly status?: Document['status'] | undefined;
  readonly cluster_id?: string | undefined;
}

/** Newest first. */
export async function listDocuments(
  tx: Tx,
  filter: DocumentFilter,
  before: string | undefined,
  limit: number,
): Promise<DocumentOverview[]> {
  return tx.query<DocumentOverview>(
    `${OVERVIEW}
     WHERE d.project_id = $1 AND ($2::uuid IS NULL OR d.id < $2) AND ($4::uuid IS NULL OR d.session_id = $4)
       AND ($5::text IS NULL OR d.status = $5) AND ($6::uuid IS NULL OR d.cluster_id = $6)
     ORDER BY d.id DESC LIMIT $3`,
    [tx.projectId, before ?? null, limit, filter.session_id ?? null, filter.status ?? null, filter.cluster_id ?? null],
  );
}

/** In id order, for read models. */
export async function findDocuments(
  tx: Tx,
  wanted: { ids: readonly string[] | null; sessionId: string | null; after: string | null; limit: number },
): Promise<DocumentOverview[]> {
  return tx.query<DocumentOverview>(
    `${OVERVIEW}
     WHERE d.project_id = $1 AND ($2::uuid[] IS NULL OR d.id = ANY($2)) AND ($3::uuid IS NULL OR d.session_id = $3)
       AND ($4::uuid IS NULL OR d.id > $4)
     ORDER BY d.id LIMIT $5`,
    [tx.projectId, wanted.ids, wanted.sessionId, wanted.after, wanted.limit],
  );
}

/** Takes the row away, its chunks with it; gives what it was. */
export async function deleteDocument(tx: Tx, id: string): Promise<(DocumentRow & { version: number }) | undefined> {
  return tx.one<DocumentRow & { version: number }>('DELETE FROM documents WHERE id = $1 RETURNING *', [id]);
}

/** Puts a document back in line, with what was asked for this time. */
export async function requeueDocument(
  tx: Tx,
  id: string,
  asked: { chunkTokens: number | null; overlapTokens: number },
): Promise<void> {
  await tx.execute(
    `UPDATE documents SET status = 'pending', code = NULL, reason = NULL, attempts = 0, due_at = now(),
       lease_owner = NULL, lease_until = NULL, lease_epoch = lease_epoch + 1, chunk_tokens = $2, overlap_tokens = $3
     WHERE id = $1`,
    [id, asked.chunkTokens, asked.overlapTokens],
  );
}

export interface ReadDocument {
  readonly title: string | null;
  readonly pages: number | null;
  readonly chars: number;
  readonly tokenizer: string;
  readonly chunkTokens: number;
  readonly clusterId: string;
}

/** Returns the document's new version. */
export async function settleReadDocument(tx: Tx, id: string, read: ReadDocument): Promise<number> {
  const row = await tx.one<{ version: number }>(
    `UPDATE documents SET status = 'ready', code = NULL, reason = NULL, title = $2, pages = $3, chars = $4,
       tokenizer = $5, chunk_tokens = $6, cluster_id = $7, extracted_at = now(), version = version + 1,
       lease_owner = NULL, lease_until = NULL
     WHERE id = $1 RETURNING version`,
    [id, read.title, read.pages, read.chars, read.tokenizer, read.chunkTokens, read.clusterId],
  );
  return row!.version;
}

export async function settleFailedDocument(tx: Tx, id: string, code: string, reason: string): Promise<void> {
  await tx.execute(
    `UPDATE documents SET status = 'failed', code = $2, reason = $3, extracted_at = now(), version = version + 1,
       lease_owner = NULL, lease_until = NULL
     WHERE id = $1`,
    [id, code, reason],
  );
}

/** Gives the lease back; due again after the wait. `counted`: whether the attempt counts as one. */
export async function postponeDocument(
  tx: Tx,
  id: string,
  epoch: number,
  wait: { ms: number; counted: boolean },
): Promise<void> {
  await tx.execute(
    `UPDATE documents SET lease_owner = NULL, lease_until = NULL, attempts = attempts - $4,
       due_at = now() + make_interval(secs => $3::float8 / 1000)
     WHERE id = $1 AND lease_epoch = $2 AND status = 'pending'`,
    [id, epoch, wait.ms, wait.counted ? 0 : 1],
  );
}

/** Clusters that turned out to be one. Returns the documents that were moved, with their new versions. */
export async function joinClusters(tx: Tx, into: string, others: readonly string[]): Promise<BumpedDocument[]> {
  return tx.query<BumpedDocument>(
    `UPDATE documents d SET cluster_id = $1, version = version + 1 WHERE cluster_id = ANY($2) RETURNING ${BUMPED}`,
    [into, others],
  );
}

export interface BumpedDocument {
  readonly id: string;
  readonly version: number;
  readonly cluster_id: string;
  readonly chunks: Document['chunks'];
}

const BUMPED = `d.id, d.version, d.cluster_id, (
  SELECT jsonb_build_object('total', count(*), 'flagged', count(*) FILTER (WHERE c.flags <> '[]'::jsonb),
    'duplicates', count(*) FILTER (WHERE c.duplicate_of IS NOT NULL)) FROM chunks c WHERE c.document_id = d.id) AS chunks`;

/** Documents whose chunks were changed from outside. */
export async function bumpDocuments(tx: Tx, ids: readonly string[]): Promise<BumpedDocument[]> {
  return tx.query<BumpedDocument>(
    `UPDATE documents d SET version = version + 1 WHERE id = ANY($1) AND cluster_id IS NOT NULL RETURNING ${BUMPED}`,
    [ids],
  );
}
