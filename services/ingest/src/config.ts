import { availableParallelism } from 'node:os';
import type { ServiceContext } from '@tuneloop/runtime/service';
import { z } from 'zod';

const DAY_SECONDS = 86_400;
/** One picture at work holds its pixels in memory: 64 million of them at most, four bytes each. */
const MAX_DEFAULT_PICTURES = 4;

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
});
export type IngestConfig = z.output<typeof configSchema>;
export type IngestContext = ServiceContext<IngestConfig>;
