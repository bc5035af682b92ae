import { createHash, randomUUID } from 'node:crypto';
import { open, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { AppError } from '../errors.ts';
import { NO_PROJECT } from '../auth/auth.ts';
import { blobCorrupt, blobKey, blobNotFound, blobsUnavailable, blobTooLarge, hashOfKey } from './blobStore.ts';
import type { BlobBackend, BlobContent, BlobRef, BlobStore, PutOptions } from './blobStore.ts';

/** Largest blob that the store takes unless a put says less: a merged model in parts, an uploaded dataset. */
export const MAX_BLOB_BYTES = 4 * 1024 * 1024 * 1024;
const DEFAULT_READ_BYTES = 64 * 1024 * 1024;
const DEFAULT_CONTENT_TYPE = 'application/octet-stream';

export interface ContentStoreOptions {
  readonly service: string;
  readonly backend: BlobBackend;
  /** Folder for streams whose hash is not known yet. On the backend's own volume where that is a folder. */
  readonly spoolDir: string;
}

/** Content addressing, limits and verification over a backend that only writes and reads keys. */
export class ContentStore implements BlobStore {
  readonly #service: string;
  readonly #backend: BlobBackend;
  readonly #spoolDir: string;

  constructor(options: ContentStoreOptions) {
    this.#service = options.service;
    this.#backend = options.backend;
    this.#spoolDir = options.spoolDir;
  }

  async put(projectId: string, content: Uint8Array | Readable, options: PutOptions = {}): Promise<BlobRef> {
    const maxBytes = Math.min(options.maxBytes ?? MAX_BLOB_BYTES, MAX_BLOB_BYTES);
    const contentType = options.contentType ?? DEFAULT_CONTENT_TYPE;
    // Checked before anything is read, so that a wrong project costs nothing.
    blobKey(this.#service, projectId, '');
    if (content instanceof Readable) {
      return this.#putStream(projectId, content, contentType, maxBytes, options.signal);
    }
    if (content.byteLength > maxBytes) throw blobTooLarge(maxBytes);
    const sha256 = createHash('sha256').update(content).digest('hex');
    return this.#store(projectId, { bytes: content, size: content.byteLength, sha256 }, contentType);
  }

  async #putStream(
    projectId: string,
    content: Readable,
    contentType: string,
    maxBytes: number,
    signal?: AbortSignal,
  ): Promise<BlobRef> {
    // A source may fail before anything reads it, such as a file that is gone: without a listener that ends the process.
    content.on('error', () => undefined);
    const path = join(this.#spoolDir, `${randomUUID()}.part`);
    try {
      await mkdir(this.#spoolDir, { recursive: true });
      const { size, sha256 } = await spool(content, path, maxBytes, signal);
      return await this.#store(projectId, { path, size, sha256 }, contentType);
    } finally {
      content.destroy();
      await rm(path, { force: true });
    }
  }

  async #store(projectId: string, content: BlobContent, contentType: string): Promise<BlobRef> {
    const key = blobKey(this.#service, projectId, content.sha256);
    // The same content under the same key is the same blob; a size that differs is a torn one, to be replaced.
    const present = await available(() => this.#backend.size(key));
    if (present !== content.size) await available(() => this.#backend.write(key, content, contentType));
    return { key, sha256: content.sha256, size: content.size };
  }

  async get(key: string): Promise<Readable> {
    const sha256 = hashOfKey(key);
    const stream = await available(() => this.#backend.read(key));
    if (!stream) throw blobNotFound(key);
    const hash = createHash('sha256');
    const verified = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        hash.update(chunk);
        done(null, chunk);
      },
      flush(done) {
        done(hash.digest('hex') === sha256 ? null : blobCorrupt(key));
      },
    });
    // Errors of the source reach the reader through the transform that the pipeline destroys.
    pipeline(stream, verified).catch(() => undefined);
    return verified;
  }

  async bytes(key: string, maxBytes = DEFAULT_READ_BYTES): Promise<Buffer> {
    const stream = await this.get(key);
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of stream) {
      const bytes = chunk as Buffer;
      size += bytes.byteLength;
      if (size > maxBytes) {
        stream.destroy();
        throw blobTooLarge(maxBytes);
      }
      chunks.push(bytes);
    }
    return Buffer.concat(chunks, size);
  }

  async exists(key: string): Promise<boolean> {
    hashOfKey(key);
    return (await available(() => this.#backend.size(key))) !== undefined;
  }

  async delete(key: string): Promise<void> {
    hashOfKey(key);
    await available(() => this.#backend.remove(key));
  }

  async check(): Promise<void> {
    // Random, so that processes that check at the same time do not remove each other's.
    const probe = Buffer.from(randomUUID());
    const { key } = await this.put(NO_PROJECT, probe, { contentType: 'text/plain' });
    const read = await this.bytes(key);
    await this.delete(key);
    if (!read.equals(probe)) throw blobsUnavailable(new Error('the store gave back something else'));
  }
}

/** Writes a stream to a file with its hash, at most `maxBytes`, and to the disk before it answers. */
async function spool(
  content: Readable,
  path: string,
  maxBytes: number,
  signal: AbortSignal | undefined,
): Promise<{ readonly size: number; readonly sha256: string }> {
  const hash = createHash('sha256');
  let size = 0;
  const counted = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      size += chunk.byteLength;
      if (size > maxBytes) {
        done(blobTooLarge(maxBytes));
        return;
      }
      hash.update(chunk);
      done(null, chunk);
    },
  });
  const file = await open(path, 'wx', 0o600);
  try {
    await pipeline(content, counted, file.createWriteStream({ flush: true }), signal ? { signal } : {});
  } finally {
    await file.close().catch(() => undefined);
  }
  return { size, sha256: hash.digest('hex') };
}

/** Runs a backend call; whatever is not an answer of ours means that the store is not to be had now. */
async function available<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw error instanceof AppError ? error : blobsUnavailable(error);
  }
}
