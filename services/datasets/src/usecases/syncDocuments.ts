import type { DocumentSource } from '@tuneloop/contracts/datasets/events';
import {
  type Document,
  type DocumentChunk,
  findDocumentsInternal,
  listChunksInternal,
} from '@tuneloop/contracts/ingest/documents';
import { AppError } from '@tuneloop/runtime/errors';
import { projectSettings } from '@tuneloop/runtime/projects';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { DatasetsContext } from '../config.ts';
import { findDocumentRows, isErased, lockErasures, replaceDocument } from '../store/documents.ts';
import { insertGroups, mergeGroups } from '../store/groups.ts';
import { shareOf } from './projectResponse.ts';

const PAGE = 200;
/** Documents of one version. */
const MAX_DOCUMENTS = 10_000;
/** Chunks of one document: more than the service that makes them lets through. */
const MAX_CHUNKS = 200_000;
const TIMEOUT_MS = 30_000;
const MAX_NAMED = 5;

export interface ChosenDocuments {
  /** Read and taken over, in the order of their ids. */
  readonly ids: string[];
  /** Those that could not be read. */
  readonly failed: string[];
}

/** The permanent split group of all documents that share chunks. */
export function groupOfCluster(clusterId: string): string {
  return `document:${clusterId}`;
}

/**
 * Brings the read model of the chosen documents up to what their owner has now, however far the events are: those whose
 * version is not the known one are fetched anew, whole.
 * @throws AppError 404 for documents that are not there; 409 (retry) while some are still being read
 */
export async function syncDocuments(
  ctx: DatasetsContext,
  projectId: string,
  source: DocumentSource,
  signal: AbortSignal,
): Promise<ChosenDocuments> {
  const documents = await findAll(ctx, projectId, source, signal);
  const there = new Set(documents.map((document) => document.id));
  const missing = source.document_ids?.filter((id) => !there.has(id)) ?? [];
  if (missing.length > 0) {
    const shown = missing.slice(0, MAX_NAMED).join(', ');
    throw new AppError({
      code: 'datasets.documents.not_found',
      status: 404,
      message: `${missing.length} documents do not exist (${shown}). Take them out of spec.documents.document_ids.`,
      field: 'spec.documents.document_ids',
    });
  }
  const pending = documents.filter((document) => document.status === 'pending');
  if (pending.length > 0) {
    const message = `${pending.length} documents are still being read. Try again when they are ready.`;
    throw new AppError({ code: 'datasets.documents.pending', status: 409, message, retry: true });
  }
  const ready = documents.filter((document) => document.status === 'ready');
  for (let at = 0; at < ready.length; at += PAGE) {
    const page = ready.slice(at, at + PAGE);
    const known = await ctx.pg.withTenant(projectId, (tx) =>
      findDocumentRows(
        tx,
        page.map((document) => document.id),
      ),
    );
    const versions = new Map(known.map((row) => [row.id, row.version]));
    for (const document of page) {
      if (versions.get(document.id) !== document.version) await takeOver(ctx, projectId, document, signal);
    }
  }
  return {
    ids: ready.map((document) => document.id),
    failed: documents.filter((document) => document.status === 'failed').map((document) => document.id),
  };
}

async function findAll(
  ctx: DatasetsContext,
  projectId: string,
  source: DocumentSource,
  signal: AbortSignal,
): Promise<Document[]> {
  const { document_ids, session_id } = source;
  const documents: Document[] = [];
  for (let cursor: string | undefined; ; ) {
    const body = {
      limit: PAGE,
      ...(document_ids === undefined ? {} : { document_ids }),
      ...(session_id === undefined ? {} : { session_id }),
      ...(cursor === undefined ? {} : { cursor }),
    };
    const page = await ctx.callers.call(findDocumentsInternal, { body }, { projectId, signal, timeoutMs: TIMEOUT_MS });
    documents.push(...page.data);
    if (page.next_cursor === null) return documents;
    if (documents.length >= MAX_DOCUMENTS) {
      throw new AppError({
        code: 'datasets.documents.too_many',
        status: 400,
        message: `There are more than ${MAX_DOCUMENTS} documents. Choose some by spec.documents.document_ids or session_id.`,
        field: 'spec.documents',
      });
    }
    cursor = page.next_cursor;
  }
}

async function takeOver(
  ctx: DatasetsContext,
  projectId: string,
  document: Document,
  signal: AbortSignal,
): Promise<void> {
  const chunks: DocumentChunk[] = [];
  for (let cursor: string | null = null; chunks.length < MAX_CHUNKS; ) {
    const query: { limit: number; cursor?: string } = { limit: PAGE, ...(cursor === null ? {} : { cursor }) };
    const page: { data: DocumentChunk[]; next_cursor: string | null } = await ctx.callers.call(
      listChunksInternal,
      { params: { id: document.id }, query },
      { projectId, signal, timeoutMs: TIMEOUT_MS },
    );
    chunks.push(...page.data);
    if (page.next_cursor === null) break;
    cursor = page.next_cursor;
  }
  await ctx.pg.withTenant(projectId, async (tx) => {
    await lockErasures(tx, 'shared');
    // Erased between the answer and here.
    if (await isErased(tx, 'document', document.id)) return;
    const { id, version, name, title, provenance } = document;
    const clusterId = document.cluster_id ?? document.id;
    await placeCluster(tx, ctx, id, clusterId);
    await replaceDocument(tx, { id, version, name, title, provenance, cluster_id: clusterId }, chunks);
  });
}

/** A new cluster draws its split for ever; one that a document has moved to is one group with where it was. */
async function placeCluster(tx: Tx, ctx: DatasetsContext, documentId: string, clusterId: string): Promise<void> {
  const groupKey = groupOfCluster(clusterId);
  const settings = await projectSettings(tx, ctx);
  await insertGroups(tx, [{ groupKey, split: shareOf(tx.projectId ?? '', groupKey, settings) }]);
  const [known] = await findDocumentRows(tx, [documentId]);
  if (known && known.cluster_id !== clusterId) await mergeGroups(tx, groupOfCluster(known.cluster_id), groupKey);
}
