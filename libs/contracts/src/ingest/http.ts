import { z } from 'zod';
import { idParams, metadata, page, pageQuery, timestamp, uuid } from '../common.ts';
import { defineRoute } from '../route.ts';
import { imageFacts, provenance } from './events.ts';

/** Largest picture and largest document, in bytes. */
export const MAX_IMAGE_BYTES = 10 * 1024 * 1024;
export const MAX_DOCUMENT_BYTES = 25 * 1024 * 1024;
/** Pictures by URL that one session is opened with. */
export const MAX_SESSION_URLS = 500;

const USER_ID_CHARS = 200;
const CATEGORY_CHARS = 100;
const NAME_CHARS = 200;

const CONTROL = /\p{Cc}/u;

function oneLine(maxChars: number) {
  return z
    .string()
    .max(maxChars)
    .refine((value) => !CONTROL.test(value), 'must be one line without control characters');
}

/** A part of a storage path: it names, it never leads anywhere. */
function pathPart(maxChars: number) {
  return oneLine(maxChars)
    .min(1)
    .refine((value) => !/[/\\]/.test(value) && !value.includes('..'), 'must not contain "..", "/" or "\\"');
}

export const category = pathPart(CATEGORY_CHARS);
export const fileName = pathPart(NAME_CHARS);
const webUrl = z.url({ protocol: /^https?$/, error: 'must be an http or https URL' }).max(4_000);
const userId = oneLine(USER_ID_CHARS).min(1);

/** A multipart field that holds a JSON object as text. */
export const metadataField = z.string().transform((value, ctx) => {
  try {
    const result = metadata.safeParse(JSON.parse(value));
    if (result.success) return result.data;
  } catch {
    // Told below, with everything else that is not a JSON object.
  }
  ctx.addIssue({ code: 'custom', message: 'must be the text of a JSON object, such as {"page":"home"}' });
  return z.NEVER;
});

/** A multipart field that holds yes or no. */
const flagField = z.enum(['true', 'false']).transform((value) => value === 'true');
const filePart = z.string().meta({ format: 'binary' });

/** Fields of the scraper clients' upload; the file comes beside them. */
export const uploadFields = z.object({
  fileName: fileName.optional(),
  user_id: userId.optional(),
  category: category.default('general'),
  metadata: metadataField.default({}),
});

export const imageFields = z.object({
  file_name: fileName.optional(),
  /** Left out: the session's, or `general`. */
  category: category.optional(),
  alt_text: z.string().max(2_000).optional(),
  /** Left out: the project's default. */
  user_id: userId.optional(),
  session_id: uuid.optional(),
  source_url: webUrl.optional(),
  collected_at: timestamp.optional(),
  licence: z.string().max(500).optional(),
  consent: z.string().max(500).optional(),
  metadata: metadataField.default({}),
  /** Whether answers are wanted for it; left out: as the session or the project has it. */
  generate: flagField.optional(),
});

export const image = z.object({
  id: uuid,
  session_id: uuid.nullable(),
  user_id: z.string(),
  category: z.string(),
  alt_text: z.string().nullable(),
  file_name: z.string(),
  /** `<category>/<timestamp>-<name>`, unique in the project. */
  path: z.string(),
  /** An address that shows the picture without credentials until `content_url_expires_at`: for an <img>. */
  content_url: z.string(),
  content_url_expires_at: timestamp,
  content_type: z.string(),
  /** Bytes and SHA-256 of what is stored: re-encoded, without metadata. */
  size: z.number().int(),
  sha256: z.string(),
  quality: z.number().min(0).max(1),
  facts: imageFacts,
  is_duplicate: z.boolean(),
  duplicate_of: uuid.nullable(),
  cluster_id: uuid,
  metadata,
  provenance,
  generate: z.boolean(),
  created_at: timestamp,
});
export type Image = z.output<typeof image>;

export const uploadFile = defineRoute({
  service: 'ingest',
  operationId: 'upload_file',
  method: 'POST',
  path: '/functions/v1/upload',
  summary: "Stores one picture, for existing scraper clients. JPEG, PNG, WebP, GIF or AVIF by the file's bytes, 10 MB.",
  scope: 'write',
  tag: 'functions',
  consumes: 'multipart/form-data',
  body: uploadFields.extend({ file: filePart }),
  response: z.object({
    success: z.literal(true),
    /** Shows the picture without credentials, for as long as the service is configured to. */
    url: z.string(),
    path: z.string(),
    imageId: uuid,
    dbStatus: z.literal('success'),
    size: z.number().int(),
    contentType: z.string(),
  }),
});

export const createImage = defineRoute({
  service: 'ingest',
  operationId: 'create_image',
  method: 'POST',
  path: '/api/v1/images',
  summary: 'Stores one picture with its context and provenance.',
  scope: 'write',
  status: 201,
  tag: 'images',
  consumes: 'multipart/form-data',
  body: imageFields.extend({ file: filePart }),
  response: image,
});

export const imageQuery = pageQuery.extend({
  session_id: uuid.optional(),
  category: z.string().max(CATEGORY_CHARS).optional(),
  user_id: z.string().max(USER_ID_CHARS).optional(),
  cluster_id: uuid.optional(),
  /** true: near-duplicates only; false: firsts only. */
  duplicates: z.boolean().optional(),
  min_quality: z.coerce.number().min(0).max(1).optional(),
});

export const listImages = defineRoute({
  service: 'ingest',
  operationId: 'list_images',
  method: 'GET',
  path: '/api/v1/images',
  summary: 'Pictures, newest first.',
  scope: 'read',
  tag: 'images',
  query: imageQuery,
  response: page(image),
});

export const getImage = defineRoute({
  service: 'ingest',
  operationId: 'get_image',
  method: 'GET',
  path: '/api/v1/images/{id}',
  summary: 'One picture with its facts.',
  scope: 'read',
  tag: 'images',
  params: idParams,
  response: image,
});

export const deleteImage = defineRoute({
  service: 'ingest',
  operationId: 'erase_image',
  method: 'DELETE',
  path: '/api/v1/images/{id}',
  summary: 'Erases a picture for good: its file, and by item.erased all that was made from it.',
  scope: 'write',
  tag: 'images',
  params: idParams,
  response: z.object({ id: uuid, erased: z.literal(true) }),
});

export const getImageContent = defineRoute({
  service: 'ingest',
  operationId: 'get_image_content',
  method: 'GET',
  path: '/api/v1/images/{id}/content',
  summary: "The picture's bytes, with a key.",
  scope: 'read',
  tag: 'images',
  params: idParams,
  produces: 'application/octet-stream',
  response: z.unknown(),
});

export const viewImage = defineRoute({
  service: 'ingest',
  operationId: 'view_image',
  method: 'GET',
  path: '/api/v1/images/{id}/view',
  summary: "The picture's bytes, by the signed token of a content_url: for an <img>, which sends no credentials.",
  scope: null,
  tag: 'images',
  params: idParams,
  query: z.object({ token: z.string().max(300) }),
  produces: 'application/octet-stream',
  response: z.unknown(),
});

/** What one run of a scraper brought, and what became of it. */
export const session = z.object({
  id: uuid,
  name: z.string().nullable(),
  url: z.string().nullable(),
  category: z.string().nullable(),
  user_id: z.string().nullable(),
  generate: z.boolean().nullable(),
  metadata,
  created_at: timestamp,
  counts: z.object({
    /** Pictures and documents stored. */
    processed: z.number().int(),
    failed: z.number().int(),
    /** Still to be fetched. */
    pending: z.number().int(),
    duplicates: z.number().int(),
    responses_created: z.number().int(),
    /** Responses that somebody has rated. */
    ready_for_training: z.number().int(),
  }),
});
export type Session = z.output<typeof session>;

export const createSession = defineRoute({
  service: 'ingest',
  operationId: 'create_session',
  method: 'POST',
  path: '/api/v1/sessions',
  summary: 'Opens a scrape session; pictures named by URL are fetched in the background.',
  scope: 'write',
  status: 201,
  tag: 'sessions',
  body: z.object({
    name: oneLine(200).optional(),
    /** The page or site that the run visited. */
    url: webUrl.optional(),
    category: category.optional(),
    user_id: userId.optional(),
    licence: z.string().max(500).optional(),
    consent: z.string().max(500).optional(),
    generate: z.boolean().optional(),
    metadata: metadata.default({}),
    image_urls: z.array(webUrl).max(MAX_SESSION_URLS).default([]),
  }),
  response: session,
});

export const listSessions = defineRoute({
  service: 'ingest',
  operationId: 'list_sessions',
  method: 'GET',
  path: '/api/v1/sessions',
  summary: 'Scrape sessions, newest first.',
  scope: 'read',
  tag: 'sessions',
  query: pageQuery,
  response: page(session),
});

export const failure = z.object({
  id: uuid,
  /** The file's name, the URL, or the sender's own source and id. */
  source: z.string(),
  code: z.string(),
  field: z.string().nullable(),
  reason: z.string(),
  created_at: timestamp,
});

export const getSession = defineRoute({
  service: 'ingest',
  operationId: 'get_session',
  method: 'GET',
  path: '/api/v1/sessions/{id}',
  summary: 'One scrape session with its counts and its latest failures.',
  scope: 'read',
  tag: 'sessions',
  params: idParams,
  response: session.extend({ failures: z.array(failure) }),
});
