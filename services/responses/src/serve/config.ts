import { availableParallelism } from 'node:os';
import { LOG_LEVELS } from '@tuneloop/runtime/log';
import { z } from 'zod';

const count = (fallback: number, max: number) => z.coerce.number().int().min(1).max(max).default(fallback);

/** What the serve process reads from the environment, besides `BLOB_*`. */
export const serveConfigSchema = z.object({
  HOST: z.string().default('127.0.0.1'),
  PORT: z.coerce.number().int().min(0).max(65_535).default(0),
  TUNELOOP_SECRET: z.string().min(32, 'must be at least 32 characters; make one with: openssl rand -hex 32'),
  LOG_LEVEL: z.enum(LOG_LEVELS).default('info'),
  TUNELOOP_EXERCISE_DIR: z.string().optional(),
  /** `nano=/models/nano,other=/models/other`: base models by name. */
  SERVE_MODELS: z.string().transform((value, ctx) => {
    const models = new Map<string, string>();
    for (const part of value.split(',').filter((entry) => entry.trim() !== '')) {
      const [, name, folder] = /^\s*([A-Za-z0-9][\w./-]{0,199})=(.+?)\s*$/.exec(part) ?? [];
      if (name === undefined || folder === undefined || models.has(name)) {
        ctx.addIssue({ code: 'custom', message: 'must be name=folder pairs, separated by commas, each name once' });
        return z.NEVER;
      }
      models.set(name, folder);
    }
    if (models.size === 0) ctx.addIssue({ code: 'custom', message: 'must name at least one model' });
    return models;
  }),
  SERVE_THREADS: count(Math.max(1, Math.min(8, availableParallelism())), 256),
  /** Sequences decoded together, per base. */
  SERVE_MAX_BATCH: count(64, 1_024),
  SERVE_MAX_CONTEXT: count(2_048, 131_072),
  /** Answers being sampled or waiting, per base; more are refused with 429. */
  SERVE_MAX_SEQUENCES: count(2_048, 4_096),
  /** Adapters kept in memory, per base. */
  SERVE_MAX_ADAPTERS: count(16, 64),
});
export type ServeConfig = z.output<typeof serveConfigSchema>;
