import { z } from 'zod';
import { idParams, MAX_PAGE, metadata, page, pageQuery, text, timestamp, uuid } from '../common.ts';
import { touchedVersion } from '../datasets/internal.ts';
import { defineRoute } from '../route.ts';
import { touchedCheckpoint } from '../trainer/internal.ts';
import { provenance } from './events.ts';
import { fileName, metadataField } from './http.ts';

/** Bounds of a chunk in tokens of the project's tokenizer. */
export const MIN_CHUNK_TOKENS = 32;
export const MAX_CHUNK_TOKENS = 8_192;
/** Documents that one request names at most. */
export const MAX_NAMED_DOCUMENTS = 1_000;

const chunkTokens = z.coerce.number().int().min(MIN_CHUNK_TOKENS).max(MAX_CHUNK_TOKENS);
const overlapTokens = z.coerce
  .number()
  .int()
  .min(0)
  .max(MAX_CHUNK_TOKENS / 2);
const unit = z.number().min(0).max(1);

export const documentFields = z.object({
  /** Left out: the file's own name. Its ending tells Markdown from plain text. */
  name: fileName.optional(),
  session_id: uuid.optional(),
  source_url: z
    .url({ protocol: /^https?$/, error: 'must be an http or https URL' })
    .max(4_000)
    .optional(),
  collected_at: timestamp.optional(),
  licence: z.string().max(500).optional(),
  consent: z.string().max(500).optional(),
  metadata: metadataField.default({}),
  /** Most tokens of a chunk; left out: the service's setting. */
  chunk_tokens: chunkTokens.optional(),
  /** Tokens that a chunk repeats of the one before; at most half of chunk_tokens. */
  overlap_tokens: overlapTokens.optional(),
});

export const document = z.object({
  id: uuid,
  session_id: uuid.nullable(),
  name: z.string(),
  content_type: z.string(),
  size: z.number().int(),
  sha256: z.string(),
  /** `pending` until it is read; `failed` says why in `reason`, with the fix. */
  status: z.enum(['pending', 'ready', 'failed']),
  code: z.string().nullable(),
  reason: z.string().nullable(),
  version: z.number().int(),
  title: z.string().nullable(),
  pages: z.number().int().nullable(),
  chars: z.number().int().nullable(),
  /** What tokens are counted with: a model's name, or `estimate` where its tokenizer is not known here. */
  tokenizer: z.string().nullable(),
  chunk_tokens: z.number().int().nullable(),
  overlap_tokens: z.number().int(),
  chunks: z.object({ total: z.number().int(), flagged: z.number().int(), duplicates: z.number().int() }),
  /** Documents that share chunks: they are never on two sides of a split. */
  cluster_id: uuid.nullable(),
  metadata,
  provenance,
  created_at: timestamp,
  extracted_at: timestamp.nullable(),
});
export type Document = z.output<typeof document>;

export const chunk = z.object({
  id: uuid,
  document_id: uuid,
  ordinal: z.number().int(),
  /** Headings above the text, outermost first. */
  heading_path: z.array(z.string()),
  text,
  /** Characters at the beginning that repeat the chunk before. */
  overlap_chars: z.number().int(),
  tokens: z.number().int(),
  page_from: z.number().int().nullable(),
  page_to: z.number().int().nullable(),
  quality: unit,
  quality_parts: z.object({ length: unit, diversity: unit, structure: unit, coherence: unit }),
  /** Ways in which the text tries to steer the model that reads it. A flagged chunk never becomes an example. */
  flags: z.array(z.string()),
  is_duplicate: z.boolean(),
  duplicate_of: uuid.nullable(),
  /** Jaccard similarity of the word trigrams to `duplicate_of`. */
  similarity: unit.nullable(),
});
export type DocumentChunk = z.output<typeof chunk>;

export const createDocument = defineRoute({
  service: 'ingest',
  operationId: 'create_document',
  method: 'POST',
  path: '/api/v1/documents',
  summary: 'Stores a document (PDF, DOCX, HTML, Markdown, text; 25 MB) and reads it in the background into chunks.',
  scope: 'write',
  status: 201,
  tag: 'documents',
  consumes: 'multipart/form-data',
  body: documentFields.extend({ file: z.string().meta({ format: 'binary' }) }),
  response: document,
});

export const listDocuments = defineRoute({
  service: 'ingest',
  operationId: 'list_documents',
  method: 'GET',
  path: '/api/v1/documents',
  summary: 'Documents, newest first.',
  scope: 'read',
  tag: 'documents',
  query: pageQuery.extend({
    session_id: uuid.optional(),
    status: z.enum(['pending', 'ready', 'failed']).optional(),
    cluster_id: uuid.optional(),
  }),
  response: page(document),
});

export const getDocument = defineRoute({
  service: 'ingest',
  operationId: 'get_document',
  method: 'GET',
  path: '/api/v1/documents/{id}',
  summary: 'One document: how reading it came out, its chunks counted, its provenance.',
  scope: 'read',
  tag: 'documents',
  params: idParams,
  response: document,
});

export const getDocumentContent = defineRoute({
  service: 'ingest',
  operationId: 'get_document_content',
  method: 'GET',
  path: '/api/v1/documents/{id}/content',
  summary: 'The stored file, as a download.',
  scope: 'read',
  tag: 'documents',
  params: idParams,
  produces: 'application/octet-stream',
  response: z.unknown(),
});

export const listDocumentChunks = defineRoute({
  service: 'ingest',
  operationId: 'list_document_chunks',
  method: 'GET',
  path: '/api/v1/documents/{id}/chunks',
  summary: "A document's chunks in reading order, with quality, flags and duplicates.",
  scope: 'read',
  tag: 'documents',
  params: idParams,
  query: pageQuery.extend({
    min_quality: z.coerce.number().min(0).max(1).optional(),
    flagged: z.boolean().optional(),
    duplicates: z.boolean().optional(),
  }),
  response: page(chunk),
});

export const extractDocument = defineRoute({
  service: 'ingest',
  operationId: 'extract_document',
  method: 'POST',
  path: '/api/v1/documents/{id}/extract',
  summary: 'Reads a document again: after a failure, or for chunks of another size.',
  scope: 'write',
  status: 202,
  tag: 'documents',
  params: idParams,
  body: z.object({ chunk_tokens: chunkTokens.optional(), overlap_tokens: overlapTokens.optional() }),
  response: document,
});

export const deleteDocument = defineRoute({
  service: 'ingest',
  operationId: 'erase_document',
  method: 'DELETE',
  path: '/api/v1/documents/{id}',
  summary: 'Erases a document for good: its file and chunks, and by item.erased every example made from it.',
  scope: 'write',
  tag: 'documents',
  params: idParams,
  response: z.object({ id: uuid, erased: z.literal(true) }),
});

/** For the datasets read model: which documents there are now, whatever it has heard. */
export const findDocumentsInternal = defineRoute({
  service: 'ingest',
  operationId: 'internal_find_documents',
  method: 'POST',
  path: '/internal/ingest/documents/find',
  summary: 'Documents by id or session, in id order; all when neither is given.',
  scope: 'service',
  body: z.object({
    document_ids: z.array(uuid).max(MAX_NAMED_DOCUMENTS).optional(),
    session_id: uuid.optional(),
    cursor: uuid.optional(),
    limit: z.number().int().min(1).max(MAX_PAGE).default(MAX_PAGE),
  }),
  response: page(document),
});

export const listChunksInternal = defineRoute({
  service: 'ingest',
  operationId: 'internal_list_chunks',
  method: 'GET',
  path: '/internal/ingest/documents/{id}/chunks',
  summary: "A document's chunks in reading order, for read models.",
  scope: 'service',
  params: idParams,
  query: pageQuery,
  response: page(chunk),
});

/** What became of an erased item: everything that it touched. */
export const getErasure = defineRoute({
  service: 'ingest',
  operationId: 'get_erasure',
  method: 'GET',
  path: '/api/v1/erasures/{id}',
  summary: 'The report of an erased picture or document: every dataset version and checkpoint that it touched.',
  scope: 'read',
  tag: 'erasures',
  params: idParams,
  response: z.object({
    id: uuid,
    kind: z.enum(['image', 'document']),
    erased_at: timestamp,
    /** False while a service has still to hear of it: ask again. */
    complete: z.boolean(),
    dataset_versions: z.array(touchedVersion),
    checkpoints: z.array(touchedCheckpoint),
  }),
});
