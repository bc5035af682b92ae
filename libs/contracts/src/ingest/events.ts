import { z } from 'zod';
import { metadata, text, timestamp, uuid } from '../common.ts';
import { defineEvent } from '../event.ts';

/** What the pixels say; the prompt's words are made from it. Colours are `#rrggbb`, shares in (0, 1]. */
export const imageFacts = z.object({
  width: z.number().int().positive(),
  height: z.number().int().positive(),
  /** Most common colours of the whole picture, largest share first. */
  dominant_colours: z.array(z.object({ hex: z.string(), share: z.number() })).max(8),
  /** Dominant colour of the middle region, of the border, and mean luma in [0, 1] with its standard deviation. */
  subject_colour: z.string(),
  background_colour: z.string(),
  luma_mean: z.number(),
  luma_deviation: z.number(),
  /** What the picture describer read, as words: colour, background, light, orientation, size. */
  words: z.record(z.string(), z.string()),
});
export type ImageFacts = z.output<typeof imageFacts>;

export const provenance = z.object({
  source_url: z.string().max(4_000).nullable().default(null),
  collected_at: timestamp.nullable().default(null),
  licence: z.string().max(500).nullable().default(null),
  consent: z.string().max(500).nullable().default(null),
});

export const imageUploaded = defineEvent({
  type: 'image.uploaded',
  version: 1,
  owner: 'ingest',
  summary: 'A picture was stored, measured and scored.',
  schema: z.object({
    image_id: uuid,
    session_id: uuid.nullable(),
    user_id: z.string(),
    category: z.string(),
    alt_text: z.string().max(2_000).nullable(),
    blob_key: z.string(),
    sha256: z.string(),
    content_type: z.string(),
    size: z.number().int(),
    quality: z.number().min(0).max(1),
    facts: imageFacts,
    /** The earlier picture that this one repeats, or nearly. */
    duplicate_of: uuid.nullable(),
    /** Permanent split group: the cluster of near-duplicates. */
    cluster_id: uuid,
    metadata,
    provenance,
    generate: z.boolean(),
  }),
});

export const imageRejected = defineEvent({
  type: 'image.rejected',
  version: 1,
  owner: 'ingest',
  summary: 'A picture was refused; nothing of it was kept.',
  schema: z.object({ source: z.string(), session_id: uuid.nullable(), code: z.string(), reason: z.string() }),
});

export const documentUploaded = defineEvent({
  type: 'document.uploaded',
  version: 1,
  owner: 'ingest',
  summary: 'A document was stored.',
  schema: z.object({
    document_id: uuid,
    session_id: uuid.nullable(),
    name: z.string(),
    blob_key: z.string(),
    content_type: z.string(),
    size: z.number().int(),
    provenance,
  }),
});

export const documentChunked = defineEvent({
  type: 'document.chunked',
  version: 1,
  owner: 'ingest',
  summary: 'A document was split into scored chunks.',
  schema: z.object({
    document_id: uuid,
    chunks: z.number().int(),
    /** Chunks that try to steer the model that reads them. */
    flagged: z.number().int(),
    /** Chunks that repeat an earlier one of the project. */
    duplicates: z.number().int().optional(),
    /** Of the document: grows with each change of its chunks. */
    version: z.number().int().optional(),
    /** Permanent split group: documents that share chunks. */
    cluster_id: uuid.optional(),
  }),
});

export const itemErased = defineEvent({
  type: 'item.erased',
  version: 1,
  owner: 'ingest',
  summary: 'An item and all that was made from it must go.',
  schema: z.object({ kind: z.enum(['image', 'document']), id: uuid, requested_by: z.string() }),
});

/** Intake from outside: kept parseable for ever. `id` is the sender's own; (project, source, id) is taken once. */
const intakeCommon = {
  id: z.string().min(1).max(200),
  source: z.string().min(1).max(500),
  collected_at: timestamp.optional(),
  licence: z.string().max(500).optional(),
  consent: z.string().max(500).optional(),
  metadata: metadata.optional(),
};

export const intakeImage = z
  .object({
    ...intakeCommon,
    url: z.url().optional(),
    storage_key: z.string().max(1_000).optional(),
    /** Base64 of the file, up to the server's message limit. */
    inline: z.base64().optional(),
    category: z.string().max(100).default('general'),
    alt_text: z.string().max(2_000).optional(),
    user_id: z.string().max(200).default('anonymous'),
    session_id: uuid.optional(),
  })
  .refine((v) => [v.url, v.storage_key, v.inline].filter((x) => x !== undefined).length === 1, {
    path: ['url'],
    message: 'give exactly one of url, storage_key, inline',
  });

export const intakeDocument = z
  .object({
    ...intakeCommon,
    url: z.url().optional(),
    storage_key: z.string().max(1_000).optional(),
    inline: z.base64().optional(),
    name: z.string().max(500),
    content_type: z.string().max(200).optional(),
    session_id: uuid.optional(),
  })
  .refine((v) => [v.url, v.storage_key, v.inline].filter((x) => x !== undefined).length === 1, {
    path: ['url'],
    message: 'give exactly one of url, storage_key, inline',
  });

export const intakePrediction = z.object({
  ...intakeCommon,
  predicted: z.string().max(10_000),
  actual: z.string().max(10_000).optional(),
  confidence: z.number().min(0).max(1),
  at: timestamp.optional(),
  features: z.record(z.string(), z.json()).optional(),
  prompt: text.optional(),
});

export const intakeFeedback = z.object({
  ...intakeCommon,
  response_id: uuid,
  kind: z.enum(['thumbs', 'stars', 'like', 'comment', 'report', 'score']),
  value: z.union([z.number(), z.string()]),
  comment: text.optional(),
  user_id: z.string().max(200).optional(),
});

/** Intake kinds, their subjects `ext.<project>.<kind>.submitted.v1` and where each is taken. */
export const INTAKE_STREAM = 'EXT';
export const INTAKE_KINDS = ['image', 'document', 'prediction', 'feedback'] as const;
export type IntakeKind = (typeof INTAKE_KINDS)[number];
export const intakeSchemas = {
  image: intakeImage,
  document: intakeDocument,
  prediction: intakePrediction,
  feedback: intakeFeedback,
} as const;
export function intakeSubject(projectId: string, kind: IntakeKind): string {
  return `ext.${projectId}.${kind}.submitted.v1`;
}
export function rejectSubject(projectId: string, kind: IntakeKind): string {
  return `rejects.${projectId}.${kind}.v1`;
}
export const intakeReject = z.object({
  id: z.string().nullable(),
  source: z.string().nullable(),
  field: z.string().nullable(),
  reason: z.string(),
  code: z.string(),
});
