import type { Readable } from 'node:stream';
import { AppError } from '../errors.ts';

/** Where a stored blob is and what it holds. */
export interface BlobRef {
  /** `<service>/<project>/<first two hex digits>/<sha256>`. */
  readonly key: string;
  /** Hex SHA-256 of the content. */
  readonly sha256: string;
  /** Bytes. */
  readonly size: number;
}

export interface PutOptions {
  readonly contentType?: string;
  /** Refuses more than this while it streams; the store's own limit unless given. */
  readonly maxBytes?: number;
  readonly signal?: AbortSignal;
}

/**
 * Content-addressed storage of immutable blobs. The same content put twice is one blob. A put that fails or is cut
 * off leaves nothing under any key. Keys of other services can be read: a blob reference may travel in an event.
 */
export interface BlobStore {
  /** @throws AppError 413 `blobs.too_large`, 503 `blobs.unavailable`. */
  put(projectId: string, content: Uint8Array | Readable, options?: PutOptions): Promise<BlobRef>;
  /**
   * The content as a stream that fails with `blobs.corrupt` at its end when the bytes are not the ones of the key.
   * @throws AppError 404 `blobs.not_found`.
   */
  get(key: string): Promise<Readable>;
  /** The whole content, verified. @throws AppError 404, 413 above `maxBytes` (64 MiB unless given). */
  bytes(key: string, maxBytes?: number): Promise<Buffer>;
  exists(key: string): Promise<boolean>;
  /** Removes the blob; a key that is not there is no error. The caller knows that nothing refers to it any more. */
  delete(key: string): Promise<void>;
  /** A write, read and delete of the real store, for readiness. @throws AppError 503. */
  check(): Promise<void>;
}

/** What a backend does with keys that have been checked and content whose hash is known. */
export interface BlobBackend {
  /** Makes the blob appear whole or not at all. */
  write(key: string, content: BlobContent, contentType: string): Promise<void>;
  /** Undefined when there is none. */
  read(key: string): Promise<Readable | undefined>;
  /** Bytes, undefined when there is none. */
  size(key: string): Promise<number | undefined>;
  remove(key: string): Promise<void>;
}

/** Content ready to be written: in memory, or in a file of our own. */
export type BlobContent =
  | { readonly bytes: Uint8Array; readonly size: number; readonly sha256: string }
  | { readonly path: string; readonly size: number; readonly sha256: string };

const SERVICE = /^[a-z][a-z_]{0,30}$/;
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const KEY = /^[a-z][a-z_]{0,30}\/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\/([0-9a-f]{2})\/([0-9a-f]{64})$/;

/** @throws AppError 400 for anything that is not a plain service and project. */
export function blobKey(service: string, projectId: string, sha256: string): string {
  if (!SERVICE.test(service) || !UUID.test(projectId)) throw badKey();
  return `${service}/${projectId}/${sha256.slice(0, 2)}/${sha256}`;
}

/**
 * The hash that a key stands for. Nothing but a key that `put` has given passes: no `..`, no other folder.
 * @throws AppError 400 `blobs.key_invalid`.
 */
export function hashOfKey(key: string): string {
  const [, prefix, sha256] = KEY.exec(key) ?? [];
  if (sha256 === undefined || prefix !== sha256.slice(0, 2)) throw badKey();
  return sha256;
}

/** Whether a key belongs to the project, for routes that take a key from outside. */
export function isKeyOfProject(key: string, projectId: string): boolean {
  return KEY.test(key) && key.split('/')[1] === projectId;
}

function badKey(): AppError {
  return new AppError({
    code: 'blobs.key_invalid',
    status: 400,
    message: 'This is not the key of a blob.',
    field: 'key',
  });
}

export function blobNotFound(key: string): AppError {
  return new AppError({ code: 'blobs.not_found', status: 404, message: `There is no blob ${key}.` });
}

export function blobTooLarge(maxBytes: number): AppError {
  return new AppError({
    code: 'blobs.too_large',
    status: 413,
    message: `The content is larger than ${maxBytes} bytes.`,
    retry: false,
  });
}

export function blobCorrupt(key: string): AppError {
  return new AppError({
    code: 'blobs.corrupt',
    status: 500,
    message: `The blob ${key} does not hold what it was made of.`,
    retry: false,
  });
}

export function blobsUnavailable(cause: unknown): AppError {
  return new AppError({
    code: 'blobs.unavailable',
    status: 503,
    message: 'The blob store does not answer. Try again in a moment.',
    retry: true,
    cause,
  });
}
