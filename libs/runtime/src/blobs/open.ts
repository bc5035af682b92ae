import { mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { type Env, parseConfig } from '../config.ts';
import type { BlobBackend, BlobStore } from './blobStore.ts';
import { ContentStore } from './contentStore.ts';
import { LocalBackend } from './local.ts';

/** What the environment says of blobs. `BLOB_STORE` chooses; the other variables are of the store they begin with. */
export const blobConfigSchema = z.discriminatedUnion('BLOB_STORE', [
  z.object({
    BLOB_STORE: z.literal('local').default('local'),
    BLOB_DIR: z.string().min(1, 'must be a folder that all services on this machine share'),
  }),
  z.object({
    BLOB_STORE: z.literal('s3'),
    S3_BUCKET: z.string().min(3),
    S3_REGION: z.string().default('us-east-1'),
    S3_ENDPOINT: z.url().optional(),
    S3_ACCESS_KEY_ID: z.string().optional(),
    S3_SECRET_ACCESS_KEY: z.string().optional(),
    S3_FORCE_PATH_STYLE: z.stringbool().default(false),
    S3_PREFIX: z
      .string()
      .regex(/^[\w.-]+(?:\/[\w.-]+)*\/$/, 'must end with / and hold only letters, digits, . _ - and /')
      .optional(),
  }),
  z.object({
    BLOB_STORE: z.literal('supabase'),
    SUPABASE_URL: z.url(),
    SUPABASE_SERVICE_ROLE_KEY: z.string().min(1),
    SUPABASE_BUCKET: z.string().min(1).default('tuneloop'),
  }),
]);
export type BlobConfig = z.output<typeof blobConfigSchema>;

/**
 * The blob store that the environment names, for one service's keys. Connects at first use, so a store that is away
 * keeps no service from starting.
 * @throws ConfigError naming the variables that are missing.
 */
export function openBlobStore(env: Env, service: string): BlobStore {
  const config = parseConfig(blobConfigSchema, { BLOB_STORE: 'local', ...withoutEmpty(env) });
  if (config.BLOB_STORE === 'local') {
    const backend = new LocalBackend(config.BLOB_DIR);
    mkdirSync(config.BLOB_DIR, { recursive: true });
    return new ContentStore({ service, backend, spoolDir: backend.spoolDir });
  }
  const spoolDir = join(tmpdir(), 'tuneloop-spool');
  return new ContentStore({ service, backend: new LateBackend(() => loadBackend(config)), spoolDir });
}

function withoutEmpty(env: Env): Env {
  return Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''));
}

async function loadBackend(config: Exclude<BlobConfig, { BLOB_STORE: 'local' }>): Promise<BlobBackend> {
  if (config.BLOB_STORE === 's3') {
    const { S3Backend } = await import('./s3.ts');
    return new S3Backend({
      bucket: config.S3_BUCKET,
      region: config.S3_REGION,
      forcePathStyle: config.S3_FORCE_PATH_STYLE,
      ...(config.S3_ENDPOINT === undefined ? {} : { endpoint: config.S3_ENDPOINT }),
      ...(config.S3_ACCESS_KEY_ID === undefined ? {} : { accessKeyId: config.S3_ACCESS_KEY_ID }),
      ...(config.S3_SECRET_ACCESS_KEY === undefined ? {} : { secretAccessKey: config.S3_SECRET_ACCESS_KEY }),
      ...(config.S3_PREFIX === undefined ? {} : { prefix: config.S3_PREFIX }),
    });
  }
  const { SupabaseBackend } = await import('./supabase.ts');
  return new SupabaseBackend({
    url: config.SUPABASE_URL,
    serviceRoleKey: config.SUPABASE_SERVICE_ROLE_KEY,
    bucket: config.SUPABASE_BUCKET,
  });
}

/** Loads its client's code with the first blob: the SDKs are large, and a service on local files never needs them. */
class LateBackend implements BlobBackend {
  readonly #load: () => Promise<BlobBackend>;
  #backend: Promise<BlobBackend> | undefined;

  constructor(load: () => Promise<BlobBackend>) {
    this.#load = load;
  }

  #get(): Promise<BlobBackend> {
    this.#backend ??= this.#load();
    return this.#backend;
  }

  async write(...args: Parameters<BlobBackend['write']>): Promise<void> {
    return (await this.#get()).write(...args);
  }

  async read(key: string): ReturnType<BlobBackend['read']> {
    return (await this.#get()).read(key);
  }

  async size(key: string): Promise<number | undefined> {
    return (await this.#get()).size(key);
  }

  async remove(key: string): Promise<void> {
    return (await this.#get()).remove(key);
  }
}
