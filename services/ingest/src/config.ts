import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { MAX_CHUNK_TOKENS, MIN_CHUNK_TOKENS } from '@tuneloop/contracts/ingest/documents';
import type { ServiceContext } from '@tuneloop/runtime/service';
import { z } from 'zod';

const DAY_SECONDS = 86_400;
/** One picture at work holds its pixels in memory: 64 million of them at most, four bytes each. */
const MAX_DEFAULT_PICTURES = 4;
const NANO_FOLDER = fileURLToPath(new URL('../../../models/nano/base', import.meta.url));

export const configSchema = z.object({
  /** Where callers reach the gateway. Without it an upload's `url` is made from the request's own host. */
  PUBLIC_URL: z.url({ protocol: /^https?$/ }).optional(),
  /** How long the `url` that an upload answers with shows the picture without credentials. */
  UPLOAD_URL_SECONDS: z.coerce
    .number()
    .int()
    .min(60)
    .max(3_650 * DAY_SECONDS)
    .default(7 * DAY_SECONDS),
  /** Pictures that one process decodes and encodes at a time. */
  PICTURE_CONCURRENCY: z.coerce
    .number()
    .int()
    .min(1)
    .max(64)
    .default(Math.min(availableParallelism(), MAX_DEFAULT_PICTURES)),
  /** URLs that one process fetches at a time. */
  FETCH_CONCURRENCY: z.coerce.number().int().min(1).max(64).default(4),
  /** Hosts (`name` or `name:port`, comma-separated) that may be fetched although their address is not public. */
  FETCH_ALLOW_HOSTS: z
    .string()
    .default('')
    .transform((value) =>
      value
        .split(',')
        .map((host) => host.trim().toLowerCase())
        .filter((host) => host !== ''),
    ),
  /** Documents that one process reads at a time, each in a process of its own; and what one of those may take. */
  EXTRACT_CONCURRENCY: z.coerce.number().int().min(1).max(64).default(1),
  EXTRACT_MEMORY_MB: z.coerce.number().int().min(128).max(16_384).default(768),
  EXTRACT_SECONDS: z.coerce.number().int().min(1).max(3_600).default(120),
  /** Most tokens of a chunk, where nothing is asked for. */
  CHUNK_TOKENS: z.coerce.number().int().min(MIN_CHUNK_TOKENS).max(MAX_CHUNK_TOKENS).default(512),
  /** `name=folder`, comma-separated: where the tokenizers of base models lie. A model without one has its tokens estimated. */
  TOKENIZERS: z
    .string()
    .default(`nano=${NANO_FOLDER}`)
    .transform((value, ctx) => {
      const folders = new Map<string, string>();
      for (const part of value.split(',').filter((entry) => entry.trim() !== '')) {
        const [, name, folder] = /^\s*([^=\s]+)=(.+?)\s*$/.exec(part) ?? [];
        if (name === undefined || folder === undefined) {
          ctx.addIssue({ code: 'custom', message: 'must be name=folder pairs, separated by commas' });
          return z.NEVER;
        }
        folders.set(name, folder);
      }
      return folders;
    }),
});
export type IngestConfig = z.output<typeof configSchema>;
export type IngestContext = ServiceContext<IngestConfig>;
