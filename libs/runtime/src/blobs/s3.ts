import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  NoSuchKey,
  NotFound,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
} from '@aws-sdk/client-s3';
import type { BlobBackend, BlobContent } from './blobStore.ts';

export interface S3Options {
  readonly bucket: string;
  readonly region: string;
  /** Another provider than AWS. */
  readonly endpoint?: string;
  /** Without both, the SDK's own chain (role, profile) gives the credentials. */
  readonly accessKeyId?: string;
  readonly secretAccessKey?: string;
  /** Bucket in the path, not in the host name: for most stores that are not AWS. */
  readonly forcePathStyle?: boolean;
  /** Put in front of every key, with `/` at its end. */
  readonly prefix?: string;
}

const MAX_ATTEMPTS = 3;
const FIRST_BACKOFF_MS = 200;
const REQUEST_TIMEOUT_MS = 300_000;

function isMissing(error: unknown): boolean {
  if (error instanceof NoSuchKey || error instanceof NotFound) return true;
  return error instanceof S3ServiceException && error.$metadata.httpStatusCode === 404 && error.name !== 'NoSuchBucket';
}

function isPassing(error: unknown): boolean {
  if (!(error instanceof S3ServiceException)) return true;
  const status = error.$metadata.httpStatusCode ?? 500;
  return status >= 500 || status === 429;
}

/** Blobs in an S3 bucket. A PutObject is atomic: a cut-off upload leaves no object. */
export class S3Backend implements BlobBackend {
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #prefix: string;

  constructor(options: S3Options) {
    const { accessKeyId, secretAccessKey } = options;
    this.#bucket = options.bucket;
    this.#prefix = options.prefix ?? '';
    this.#client = new S3Client({
      region: options.region,
      forcePathStyle: options.forcePathStyle ?? false,
      maxAttempts: MAX_ATTEMPTS,
      // Stores other than AWS refuse the newer checksum trailers.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
      ...(accessKeyId === undefined || secretAccessKey === undefined
        ? {}
        : { credentials: { accessKeyId, secretAccessKey } }),
    });
  }

  async write(key: string, content: BlobContent, contentType: string): Promise<void> {
    // The SDK cannot repeat a stream, so each attempt opens the file anew.
    for (let attempt = 1; ; attempt++) {
      const body = 'bytes' in content ? content.bytes : createReadStream(content.path);
      const command = new PutObjectCommand({
        Bucket: this.#bucket,
        Key: this.#prefix + key,
        Body: body,
        ContentLength: content.size,
        ContentType: contentType,
      });
      // The hash is known: signing it spares the SDK a second read of the file.
      command.middlewareStack.add(
        (next) => async (args) => {
          const request = args.request;
          if (typeof request === 'object' && request !== null && 'headers' in request) {
            (request.headers as Record<string, string>)['x-amz-content-sha256'] = content.sha256;
          }
          return next(args);
        },
        { step: 'build', name: 'contentSha256', priority: 'low' },
      );
      try {
        await this.#client.send(command, { abortSignal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
        return;
      } catch (error) {
        if (attempt >= MAX_ATTEMPTS || !isPassing(error)) throw error;
        await delay(FIRST_BACKOFF_MS * 2 ** (attempt - 1));
      } finally {
        if (body instanceof Readable) body.destroy();
      }
    }
  }

  async read(key: string): Promise<Readable | undefined> {
    try {
      const { Body } = await this.#client.send(new GetObjectCommand({ Bucket: this.#bucket, Key: this.#prefix + key }));
      if (!(Body instanceof Readable)) throw new Error('S3 answered without a body');
      return Body;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async size(key: string): Promise<number | undefined> {
    try {
      const head = await this.#client.send(new HeadObjectCommand({ Bucket: this.#bucket, Key: this.#prefix + key }));
      return head.ContentLength;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async remove(key: string): Promise<void> {
    await this.#client.send(new DeleteObjectCommand({ Bucket: this.#bucket, Key: this.#prefix + key }));
  }
}
