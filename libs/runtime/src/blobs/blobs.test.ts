import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ConfigError } from '../config.ts';
import { AppError } from '../errors.ts';
import { newId } from '../ids.ts';
import { isKeyOfProject } from './blobStore.ts';
import type { BlobStore } from './blobStore.ts';
import { startS3Server, startSupabaseServer } from './objectServer.ts';
import type { ObjectServer } from './objectServer.ts';
import { openBlobStore } from './open.ts';

const project = newId();
const sha = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

let dir: string;
let s3: ObjectServer;
let supabase: ObjectServer;
const stores = new Map<string, BlobStore>();
const s3Env = () => ({
  BLOB_STORE: 's3',
  S3_BUCKET: 'tl-test',
  S3_REGION: 'eu-test-1',
  S3_ENDPOINT: s3.url,
  S3_ACCESS_KEY_ID: 'AKTEST',
  S3_SECRET_ACCESS_KEY: 'secret',
  S3_FORCE_PATH_STYLE: 'true',
  S3_PREFIX: 'blobs/',
});

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'tl-blobs-'));
  s3 = await startS3Server('tl-test');
  supabase = await startSupabaseServer('tuneloop', 'service-role');
  stores.set('local', openBlobStore({ BLOB_DIR: dir }, 'trainer'));
  stores.set('s3', openBlobStore(s3Env(), 'trainer'));
  stores.set(
    'supabase',
    openBlobStore(
      { BLOB_STORE: 'supabase', SUPABASE_URL: supabase.url, SUPABASE_SERVICE_ROLE_KEY: 'service-role' },
      'trainer',
    ),
  );
});
afterAll(async () => {
  await s3?.close();
  await supabase?.close();
  await rm(dir, { recursive: true, force: true });
});

async function failure(promise: Promise<unknown>): Promise<AppError> {
  const error: unknown = await promise.then(
    () => new Error('it succeeded'),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof AppError)) throw error;
  return error;
}
/** Every file under the folder, relative. */
const files = async () =>
  (await readdir(dir, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name);

/** A stream of chunks, optionally cut off by an error. */
function source(chunks: Buffer[], error?: Error): Readable {
  return Readable.from(
    (async function* () {
      yield* chunks;
      if (error) throw error;
    })(),
  );
}

describe.each(['local', 's3', 'supabase'])('%s', (name) => {
  const store = () => stores.get(name)!;

  it('puts and gets bytes and streams by their content', async () => {
    const bytes = randomBytes(200_000);
    const fromBytes = await store().put(project, bytes, { contentType: 'image/png' });
    expect(fromBytes).toEqual({
      key: `trainer/${project}/${sha(bytes).slice(0, 2)}/${sha(bytes)}`,
      sha256: sha(bytes),
      size: 200_000,
    });
    const other = randomBytes(300_000);
    const fromStream = await store().put(project, source([other.subarray(0, 100), other.subarray(100)]), {
      contentType: 'application/zip',
    });
    expect(fromStream.sha256).toBe(sha(other));
    expect(await store().bytes(fromBytes.key)).toEqual(bytes);
    const chunks: Buffer[] = [];
    for await (const chunk of await store().get(fromStream.key)) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks)).toEqual(other);
  });

  it('keeps one blob for the same content, and none when it is deleted', async () => {
    const bytes = randomBytes(100);
    const [a, b] = await Promise.all([store().put(project, bytes), store().put(project, source([bytes]))]);
    expect(a).toEqual(b);
    expect(await store().exists(a.key)).toBe(true);
    await store().delete(a.key);
    await store().delete(a.key);
    expect(await store().exists(a.key)).toBe(false);
    expect(await failure(store().get(a.key))).toMatchObject({ status: 404, code: 'blobs.not_found' });
  });

  it('stores an empty blob', async () => {
    const empty = await store().put(project, Buffer.alloc(0));
    expect(await store().bytes(empty.key)).toHaveLength(0);
  });

  it('refuses more than it was told to take, in bytes and while streaming', async () => {
    expect(await failure(store().put(project, Buffer.alloc(11), { maxBytes: 10 }))).toMatchObject({
      status: 413,
      code: 'blobs.too_large',
    });
    let produced = 0;
    const endless = Readable.from(
      (function* () {
        for (;;) {
          produced++;
          yield Buffer.alloc(1_000);
        }
      })(),
    );
    expect((await failure(store().put(project, endless, { maxBytes: 10_000 }))).code).toBe('blobs.too_large');
    expect(produced).toBeLessThan(1_000);
    const blob = await store().put(project, Buffer.alloc(100));
    expect((await failure(store().bytes(blob.key, 99))).code).toBe('blobs.too_large');
  });

  it('leaves nothing of an upload that breaks off', async () => {
    const bytes = randomBytes(5_000);
    await expect(store().put(project, source([bytes], new Error('the client has gone')))).rejects.toThrow(
      'the client has gone',
    );
    expect(await store().exists(`trainer/${project}/${sha(bytes).slice(0, 2)}/${sha(bytes)}`)).toBe(false);
  });

  it.each([
    '../../etc/passwd',
    '/etc/passwd',
    `trainer/${project}/../../${'a'.repeat(64)}`,
    `trainer/${project}/ab/${'a'.repeat(64)}`,
    `trainer/${project}/aa/${'a'.repeat(64)}/..`,
    `trainer/${project}/aa/${'a'.repeat(64)}\0`,
    `tr\\ainer/${project}/aa/${'a'.repeat(64)}`,
    '',
  ])('takes no key that it has not given: %j', async (key) => {
    for (const call of [store().get(key), store().bytes(key), store().exists(key), store().delete(key)]) {
      expect(await failure(call)).toMatchObject({ status: 400, code: 'blobs.key_invalid' });
    }
    expect((await failure(store().put('../x', Buffer.alloc(1)))).code).toBe('blobs.key_invalid');
  });

  it('refuses a file that went away before it was read', async () => {
    const gone = createReadStream(join(dir, 'gone'));
    // Failed before the store looks at it.
    await new Promise((resolve) => gone.once('error', resolve));
    await expect(stores.get(name)!.put(project, gone)).rejects.toThrow(/ENOENT/);
    await expect(stores.get(name)!.put(project, createReadStream(join(dir, 'gone')))).rejects.toThrow(/ENOENT/);
  });

  it('passes its own check', async () => {
    await expect(store().check()).resolves.toBeUndefined();
  });
});

describe('local', () => {
  it('keeps no temporary file, whatever happened', async () => {
    const store = stores.get('local')!;
    await store.put(project, source([randomBytes(10)]));
    await expect(store.put(project, source([randomBytes(10)], new Error('gone')))).rejects.toThrow('gone');
    await expect(store.put(project, source([randomBytes(10)]), { signal: AbortSignal.abort() })).rejects.toThrow(
      'aborted',
    );
    expect((await files()).filter((file) => !/^[0-9a-f]{64}$/.test(file))).toEqual([]);
  });

  it('notices content that was changed, and mends a torn file with the next put', async () => {
    const store = stores.get('local')!;
    const bytes = randomBytes(100);
    const { key } = await store.put(project, bytes);
    await writeFile(join(dir, key), randomBytes(100));
    expect(await failure(store.bytes(key))).toMatchObject({ code: 'blobs.corrupt', retry: false });
    await truncate(join(dir, key), 10);
    await store.put(project, bytes);
    expect(await store.bytes(key)).toEqual(bytes);
    expect((await stat(join(dir, key))).size).toBe(100);
  });

  it("reads another service's blob and knows whose it is", async () => {
    const { key } = await stores.get('local')!.put(project, Buffer.from('x'));
    expect((await openBlobStore({ BLOB_DIR: dir }, 'datasets').bytes(key)).toString()).toBe('x');
    expect([isKeyOfProject(key, project), isKeyOfProject(key, newId()), isKeyOfProject('x', project)]).toEqual([
      true,
      false,
      false,
    ]);
  });
});

describe('s3', () => {
  beforeEach(() => {
    s3.requests.length = 0;
  });

  it('signs what it sends, with the content hash, type and prefix', async () => {
    const bytes = randomBytes(50);
    const { key } = await stores.get('s3')!.put(project, source([bytes]), { contentType: 'image/webp' });
    expect(s3.objects.get(`blobs/${key}`)).toEqual({ bytes, contentType: 'image/webp' });
    const put = s3.requests.find((request) => request.method === 'PUT');
    expect(put?.headers).toMatchObject({ 'x-amz-content-sha256': sha(bytes), 'content-length': '50' });
    expect(put?.headers['authorization']).toContain('AWS4-HMAC-SHA256');
    expect(
      Object.keys(put?.headers ?? {}).filter(
        (header) => header.startsWith('x-amz-checksum') || header === 'x-amz-trailer',
      ),
    ).toEqual([]);
  });

  it('repeats an upload that failed in passing, stream or not', async () => {
    for (const content of [randomBytes(10), source([randomBytes(10)])]) {
      s3.fail = { status: 503, times: 2 };
      const { key } = await stores.get('s3')!.put(project, content);
      expect(await stores.get('s3')!.exists(key)).toBe(true);
    }
  });

  it('is a retryable 503 when refused or away', async () => {
    const wrong = openBlobStore({ ...s3Env(), S3_ACCESS_KEY_ID: 'OTHER' }, 'trainer');
    expect(await failure(wrong.put(project, Buffer.from('x')))).toMatchObject({
      status: 503,
      code: 'blobs.unavailable',
    });
    const away = openBlobStore({ ...s3Env(), S3_ENDPOINT: 'http://127.0.0.1:1' }, 'trainer');
    expect(await failure(away.check())).toMatchObject({ status: 503, retry: true });
    const noBucket = openBlobStore({ ...s3Env(), S3_BUCKET: 'other' }, 'trainer');
    expect((await failure(noBucket.get(`trainer/${project}/aa/${'a'.repeat(64)}`))).code).toBe('blobs.unavailable');
  });
});

describe('supabase', () => {
  it('is a retryable 503 when refused', async () => {
    const wrong = openBlobStore(
      { BLOB_STORE: 'supabase', SUPABASE_URL: supabase.url, SUPABASE_SERVICE_ROLE_KEY: 'other' },
      'trainer',
    );
    expect(await failure(wrong.put(project, Buffer.from('x')))).toMatchObject({
      status: 503,
      code: 'blobs.unavailable',
    });
  });

  it('sends the content type', async () => {
    const { key } = await stores.get('supabase')!.put(project, Buffer.from('abc'), { contentType: 'image/avif' });
    expect(supabase.objects.get(key)?.contentType).toContain('image/avif');
  });
});

describe('configuration', () => {
  it('names what is missing and shows no value', () => {
    const open = (env: Record<string, string>) => () => openBlobStore(env, 'trainer');
    expect(open({})).toThrow(ConfigError);
    expect(open({ BLOB_STORE: 'local' })).toThrow('BLOB_DIR');
    expect(open({ BLOB_STORE: 's3' })).toThrow('S3_BUCKET is required');
    expect(open({ BLOB_STORE: 'ftp' })).toThrow('BLOB_STORE');
    expect(open({ BLOB_STORE: 'supabase', SUPABASE_URL: 'no url with-secret' })).toThrow(
      /SUPABASE_SERVICE_ROLE_KEY(?![\s\S]*with-secret)/,
    );
  });
});
