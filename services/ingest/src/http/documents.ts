import {
  createDocument,
  deleteDocument,
  type Document,
  documentFields,
  extractDocument,
  findDocumentsInternal,
  getDocument,
  getDocumentContent,
  listChunksInternal,
  listDocumentChunks,
  listDocuments,
} from '@tuneloop/contracts/ingest/documents';
import { MAX_DOCUMENT_BYTES } from '@tuneloop/contracts/ingest/http';
import { badRequest, notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { type DetachedRequest, mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { newId } from '@tuneloop/runtime/ids';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { IngestParts } from '../parts.ts';
import { type ChunkFilter, type ChunkRow, listChunks } from '../store/chunks.ts';
import * as store from '../store/documents.ts';
import { eraseDocument } from '../usecases/eraseDocument.ts';
import { withBlob } from '../usecases/storeBlob.ts';
import { checkDocument, documentTooLarge, storeDocument } from '../usecases/storeDocument.ts';
import { idCursor, nextCursor } from './cursor.ts';
import { formContent, parseFields } from './readForm.ts';
import { checkedName } from './upload.ts';

const FORM_LIMITS = { maxFileBytes: MAX_DOCUMENT_BYTES, tooLarge: documentTooLarge };
/** Field names, boundaries and text fields beside the file. */
const MAX_FORM_BYTES = MAX_DOCUMENT_BYTES + 10 * 1024 * 1024;

export function mountDocuments(app: HttpApp, parts: IngestParts): void {
  const { ctx, sweeper, reader } = parts;

  mountRoute(app, ctx, createDocument, async (request) => receiveDocument(parts, request), {
    transaction: false,
    maxBodyBytes: MAX_FORM_BYTES,
  });

  mountRoute(app, ctx, listDocuments, async ({ query, tx }) => {
    const { limit, cursor, ...filter } = query;
    const rows = await store.listDocuments(tx, filter, idCursor(cursor), limit);
    return { data: rows.map(toDocument), next_cursor: nextCursor(rows, limit) };
  });

  mountRoute(app, ctx, getDocument, async ({ params, tx }) => toDocument(await requireDocument(tx, params.id)));

  mountRoute(
    app,
    ctx,
    getDocumentContent,
    async ({ params, tenant, reply }) => {
      const row = await tenant((tx) => requireDocument(tx, params.id));
      // A download, whatever it holds: a stored HTML page must not run here.
      void reply
        .header('content-disposition', `attachment; filename*=UTF-8''${encodeURIComponent(row.name)}`)
        .header('content-security-policy', "default-src 'none'; sandbox")
        .header('x-content-type-options', 'nosniff')
        .type(row.content_type)
        .header('content-length', row.size);
      return ctx.blobs.get(row.blob_key);
    },
    { transaction: false },
  );

  mountRoute(app, ctx, listDocumentChunks, async ({ params, query, tx }) => {
    const { limit, cursor, ...filter } = query;
    return pageOfChunks(tx, params.id, filter, cursor, limit);
  });

  mountRoute(app, ctx, extractDocument, async ({ params, body, tx }) => {
    const row = await requireDocument(tx, params.id);
    const chunkTokens = body.chunk_tokens ?? row.chunk_tokens;
    const overlapTokens = body.overlap_tokens ?? row.overlap_tokens;
    checkOverlap(overlapTokens, chunkTokens ?? ctx.config.CHUNK_TOKENS);
    await store.requeueDocument(tx, row.id, { chunkTokens, overlapTokens });
    tx.afterCommit(() => reader.wake());
    return toDocument(await requireDocument(tx, row.id));
  });

  mountRoute(app, ctx, deleteDocument, async ({ params, auth, tx }) => {
    if (!(await eraseDocument(tx, params.id, auth.actor, ctx.clock()))) throw documentNotFound(params.id);
    tx.afterCommit(() => sweeper.wake());
    return { id: params.id, erased: true };
  });

  mountRoute(app, ctx, findDocumentsInternal, async ({ body, tx }) => {
    const rows = await store.findDocuments(tx, {
      ids: body.document_ids ?? null,
      sessionId: body.session_id ?? null,
      after: body.cursor ?? null,
      limit: body.limit,
    });
    return { data: rows.map(toDocument), next_cursor: nextCursor(rows, body.limit) };
  });

  mountRoute(app, ctx, listChunksInternal, async ({ params, query, tx }) =>
    pageOfChunks(tx, params.id, {}, query.cursor, query.limit),
  );
}

/** One uploaded document from its form to its answer: everything is checked before anything is stored. */
async function receiveDocument({ ctx, forms, reader }: IngestParts, request: DetachedRequest): Promise<Document> {
  const form = await forms.read(request.raw, FORM_LIMITS);
  const fields = parseFields(documentFields, form.fields);
  checkOverlap(fields.overlap_tokens ?? 0, fields.chunk_tokens ?? ctx.config.CHUNK_TOKENS);
  const name = checkedName(fields.name ?? form.file.name ?? 'document', fields.name === undefined ? 'file' : 'name');
  const contentType = await checkDocument(form.file.bytes, name, undefined);
  const id = newId();
  const { bytes } = form.file;
  return withBlob(ctx, { id, projectId: request.auth.projectId, bytes, contentType }, (storeBlob) =>
    request.idempotent(async (tx) => {
      const row = {
        id,
        session_id: fields.session_id ?? null,
        intake_id: null,
        name,
        content_type: contentType,
        metadata: fields.metadata,
        provenance: {
          source_url: fields.source_url ?? null,
          collected_at: fields.collected_at ?? null,
          licence: fields.licence ?? null,
          consent: fields.consent ?? null,
        },
        chunk_tokens: fields.chunk_tokens ?? null,
        overlap_tokens: fields.overlap_tokens ?? 0,
      };
      await storeDocument(tx, row, storeBlob);
      tx.afterCommit(() => reader.wake());
      return toDocument(await requireDocument(tx, id));
    }, formContent(form)),
  );
}

function checkOverlap(overlapTokens: number, chunkTokens: number): void {
  if (overlapTokens * 2 <= chunkTokens) return;
  throw badRequest(
    'ingest.document.overlap_too_large',
    `overlap_tokens must be at most half of chunk_tokens, which is ${chunkTokens}`,
    'overlap_tokens',
  );
}

async function pageOfChunks(
  tx: Tx,
  documentId: string,
  filter: ChunkFilter,
  cursor: string | undefined,
  limit: number,
) {
  if (cursor !== undefined && !/^\d{1,9}$/.test(cursor)) {
    throw badRequest('request.cursor_invalid', 'cursor must be the next_cursor of the page before', 'cursor');
  }
  await requireDocument(tx, documentId);
  const rows = await listChunks(tx, documentId, filter, Number(cursor ?? 0), limit);
  const next = rows.length === limit ? String(rows.at(-1)!.ordinal) : null;
  return { data: rows.map(toChunk), next_cursor: next };
}

async function requireDocument(tx: Tx, id: string): Promise<store.DocumentOverview> {
  const row = await store.findDocumentById(tx, id);
  if (!row) throw documentNotFound(id);
  return row;
}

function documentNotFound(id: string) {
  return notFound('ingest.document.not_found', `There is no document ${id}`);
}

function toChunk(row: ChunkRow) {
  return { ...row, is_duplicate: row.duplicate_of !== null };
}

function toDocument(row: store.DocumentOverview): Document {
  return {
    id: row.id,
    session_id: row.session_id,
    name: row.name,
    content_type: row.content_type,
    size: row.size,
    sha256: row.sha256,
    status: row.status,
    code: row.code,
    reason: row.reason,
    version: row.version,
    title: row.title,
    pages: row.pages,
    chars: row.chars,
    tokenizer: row.tokenizer,
    chunk_tokens: row.chunk_tokens,
    overlap_tokens: row.overlap_tokens,
    chunks: row.chunks,
    cluster_id: row.cluster_id,
    metadata: row.metadata as Document['metadata'],
    provenance: row.provenance,
    created_at: row.created_at.toISOString(),
    extracted_at: row.extracted_at?.toISOString() ?? null,
  };
}
