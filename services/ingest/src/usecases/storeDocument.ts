import { documentUploaded } from '@tuneloop/contracts/ingest/events';
import { MAX_DOCUMENT_BYTES } from '@tuneloop/contracts/ingest/http';
import type { BlobRef } from '@tuneloop/runtime/blobs/blobStore';
import { AppError } from '@tuneloop/runtime/errors';
import { emit } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { fileTypeFromBuffer } from 'file-type';
import { documentType, type DocumentType } from '../domain/documentType.ts';
import { type DocumentRow, insertDocument } from '../store/documents.ts';
import { sessionOf, withSession } from './storeImage.ts';

/** @throws AppError 4xx `ingest.document.*` for what is no document that is taken. */
export async function checkDocument(bytes: Buffer, name: string, declared: string | undefined): Promise<DocumentType> {
  if (bytes.length === 0) throw refused('empty', 'file is empty', 400);
  if (bytes.length > MAX_DOCUMENT_BYTES) {
    throw documentTooLarge();
  }
  const sniffed = (await fileTypeFromBuffer(bytes))?.mime;
  const type = documentType({ bytes, sniffed, name, declared });
  if (type !== undefined) return type;
  throw refused(
    'type_refused',
    `file is ${sniffed ?? 'of no known document type'} by its content; send PDF, DOCX, HTML, Markdown or UTF-8 text`,
    415,
  );
}

export function documentTooLarge(): AppError {
  return refused('too_large', `file is larger than ${MAX_DOCUMENT_BYTES / 1024 / 1024} MB`, 413);
}

/** Records a document whose blob is stored in this transaction, and tells of it. It is read afterwards, by the reader. */
export async function storeDocument(
  tx: Tx,
  document: Omit<DocumentRow, 'blob_key' | 'sha256' | 'size'>,
  store: (tx: Tx) => Promise<BlobRef>,
): Promise<void> {
  const session = document.session_id === null ? undefined : await sessionOf(tx, document.session_id);
  const provenance = withSession(document.provenance, session);
  const stored = await store(tx);
  await insertDocument(tx, { ...document, provenance, blob_key: stored.key, sha256: stored.sha256, size: stored.size });
  await emit(tx, documentUploaded, {
    subject: document.id,
    aggregateVersion: 1,
    data: {
      document_id: document.id,
      session_id: document.session_id,
      name: document.name,
      blob_key: stored.key,
      content_type: document.content_type,
      size: stored.size,
      provenance,
    },
  });
}

function refused(what: string, message: string, status: number): AppError {
  return new AppError({ code: `ingest.document.${what}`, status, message, field: 'file', retry: false });
}
