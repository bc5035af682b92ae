import { openAsBlob } from 'node:fs';
import { Readable } from 'node:stream';
import type { ReadableStream as NodeReadableStream } from 'node:stream/web';
import { createClient } from '@supabase/supabase-js';
import type { BlobBackend, BlobContent } from './blobStore.ts';

export interface SupabaseStorageOptions {
  readonly url: string;
  /** Bypasses the bucket's policies: for services only. */
  readonly serviceRoleKey: string;
  /** A private bucket that exists. */
  readonly bucket: string;
}

type Bucket = ReturnType<ReturnType<typeof createClient>['storage']['from']>;

interface StorageFailure {
  readonly status?: number | undefined;
  readonly statusCode?: string | undefined;
  readonly code?: string | undefined;
}

/** The storage API answers a missing object with 400 or 404 and says which in the body. */
function isMissing(error: StorageFailure): boolean {
  if (error.code === 'NoSuchBucket') return false;
  return error.code === 'NoSuchKey' || error.statusCode === '404' || error.status === 404;
}

/** Blobs in a Supabase storage bucket. An upload is one request: cut off, it leaves no object. */
export class SupabaseBackend implements BlobBackend {
  readonly #bucket: Bucket;

  constructor(options: SupabaseStorageOptions) {
    const client = createClient(options.url, options.serviceRoleKey, {
      auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    });
    this.#bucket = client.storage.from(options.bucket);
  }

  async write(key: string, content: BlobContent, contentType: string): Promise<void> {
    const body =
      'bytes' in content ? Buffer.from(content.bytes) : await openAsBlob(content.path, { type: contentType });
    const { error } = await this.#bucket.upload(key, body, { contentType, upsert: true });
    if (error) throw error;
  }

  async read(key: string): Promise<Readable | undefined> {
    const { data, error } = await this.#bucket.download(key).asStream();
    if (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
    return Readable.fromWeb(data as NodeReadableStream);
  }

  async size(key: string): Promise<number | undefined> {
    const { data, error } = await this.#bucket.info(key);
    if (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
    return data.size ?? undefined;
  }

  async remove(key: string): Promise<void> {
    const { error } = await this.#bucket.remove([key]);
    if (error && !isMissing(error)) throw error;
  }
}
