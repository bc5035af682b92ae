import { z } from 'zod';

const unit = z.number().min(0).max(1);

/** What the reading process is asked for. */
export const extractJob = z.object({
  contentType: z.string(),
  chunkTokens: z.number().int().positive(),
  overlapTokens: z.number().int().min(0),
  /** Folder with a `tokenizer.json`; null: tokens are estimated. */
  tokenizer: z.string().nullable(),
});
export type ExtractJob = z.output<typeof extractJob>;

const measuredChunk = z.object({
  headingPath: z.array(z.string()),
  text: z.string(),
  overlapChars: z.number().int(),
  tokens: z.number().int(),
  pageFrom: z.number().int().nullable(),
  pageTo: z.number().int().nullable(),
  quality: unit,
  qualityParts: z.object({ length: unit, diversity: unit, structure: unit, coherence: unit }),
  flags: z.array(z.string()),
  /** SHA-256 of the words, case and punctuation apart. */
  textHash: z.string(),
  /** Keys of the MinHash signature's bands. */
  keys: z.array(z.number().int()),
});
export type MeasuredChunk = z.output<typeof measuredChunk>;

/** What it answers. It has read untrusted bytes, so its answer is checked like any other. */
export const extractResult = z.discriminatedUnion('ok', [
  z.object({
    ok: z.literal(true),
    title: z.string().nullable(),
    pages: z.number().int().nullable(),
    chars: z.number().int(),
    chunks: z.array(measuredChunk),
  }),
  z.object({ ok: z.literal(false), code: z.string(), message: z.string() }),
]);
export type ExtractResult = z.output<typeof extractResult>;
