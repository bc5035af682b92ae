/** One file of a repository into the cache: resumed where it was broken off, checked, put in place by a rename. */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { copyFile, lstat, mkdir, open, rename, rm, stat, symlink } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { EngineError } from '../errors.ts';
import { PassingFailure, persist, send, STALL_MS, type Watchdog } from './request.ts';
import type { HubSettings } from './settings.ts';

/** A repository in the cache, laid out as Python's `huggingface_hub` does: blobs by etag, snapshots of links to them. */
export interface RepoCache {
  readonly id: string;
  /** `models--org--name` */
  readonly folder: string;
  /** 40 hexadecimal digits. */
  readonly commit: string;
}

interface FileFacts {
  readonly etag: string;
  readonly size: number | undefined;
}

export function snapshotFolder(repo: RepoCache): string {
  return join(repo.folder, 'snapshots', repo.commit);
}

const exists = async (path: string): Promise<boolean> =>
  await stat(path).then(
    () => true,
    () => false,
  );

function sizeFrom(text: string | null): number | undefined {
  const size = text === null ? NaN : Number(text);
  return Number.isSafeInteger(size) && size >= 0 ? size : undefined;
}

async function factsOf(url: string, what: string, settings: HubSettings): Promise<FileFacts> {
  return await persist(settings, async (watchdog) => {
    // Without this, servers tell the size of the compressed answer.
    const headers = { 'accept-encoding': 'identity' };
    const response = await send({ method: 'HEAD', url, headers, followAway: false, what }, settings, watchdog);
    const stored = response.headers.get('x-linked-etag') ?? response.headers.get('etag') ?? '';
    const etag = stored.replace(/^W\//, '').replaceAll('"', '');
    // It becomes the name of a file.
    if (!/^[\w-][\w.-]{0,199}$/.test(etag)) {
      throw new EngineError(
        'engine.hub.failed',
        `${what}: the server tells no etag, so a download could not be checked`,
      );
    }
    return { etag, size: sizeFrom(response.headers.get('x-linked-size') ?? response.headers.get('content-length')) };
  });
}

/** What an etag says of the bytes: SHA-256 of large files, Git's blob hash of small ones, nothing otherwise. */
function hashFor(etag: string, size: number): Hash | undefined {
  if (/^[0-9a-f]{64}$/.test(etag)) return createHash('sha256');
  if (/^[0-9a-f]{40}$/.test(etag)) return createHash('sha1').update(`blob ${size}\0`);
  return undefined;
}

async function verify(path: string, what: string, { etag, size }: FileFacts): Promise<void> {
  const found = (await stat(path)).size;
  let wrong = size !== undefined && found !== size ? `it has ${found} bytes instead of ${size}` : undefined;
  const hash = hashFor(etag, found);
  if (wrong === undefined && hash !== undefined) {
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
    if (hash.digest('hex') !== etag) wrong = 'its digest is not the one the hub tells';
  }
  if (wrong === undefined) return;
  await rm(path, { force: true });
  throw new EngineError('engine.hub.corrupt', `${what}: ${wrong}. The download was removed; try again`);
}

interface Fetch {
  readonly url: string;
  readonly file: string;
  readonly what: string;
  readonly path: string;
  readonly facts: FileFacts;
}

/** Appends what is missing to the partial file. Throws PassingFailure when the connection breaks off; what came stays. */
async function fetchRest(fetch: Fetch, settings: HubSettings, watchdog: Watchdog): Promise<void> {
  const { url, file, what, path, facts } = fetch;
  await using target = await open(path, 'a');
  let bytes = (await target.stat()).size;
  if (facts.size !== undefined && bytes === facts.size && bytes > 0) return;
  const headers: Record<string, string> = { 'accept-encoding': 'identity' };
  if (bytes > 0) headers['range'] = `bytes=${bytes}-`;
  const response = await send({ method: 'GET', url, headers, followAway: true, what }, settings, watchdog);
  if (response.status === 416) {
    await target.truncate(0);
    throw new PassingFailure(`${what}: the server could not go on at byte ${bytes}`);
  }
  // A server that does not resume sends it all again.
  if (response.status !== 206) {
    await target.truncate(0);
    bytes = 0;
  }
  try {
    for await (const chunk of response.body ?? []) {
      await target.appendFile(chunk);
      bytes += chunk.byteLength;
      watchdog.moved();
      if (facts.size !== undefined && bytes > facts.size) break;
      settings.onProgress({ file, bytes, ...(facts.size !== undefined && { totalBytes: facts.size }) });
    }
  } catch (cause) {
    settings.signal?.throwIfAborted();
    throw new PassingFailure(`${what}: broken off, or still for ${STALL_MS / 1000} s, at byte ${bytes}`, { cause });
  }
  if (facts.size !== undefined && bytes < facts.size) {
    throw new PassingFailure(`${what}: ended at byte ${bytes} of ${facts.size}`);
  }
}

async function link(blob: string, path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  if (
    await lstat(path).then(
      () => true,
      () => false,
    )
  )
    await rm(path);
  try {
    await symlink(relative(dirname(path), blob), path);
  } catch {
    await copyFile(blob, path); // A file system without links.
  }
}

/**
 * Has a file of a repository in the cache, downloading it if need be.
 *
 * @returns its path in the snapshot
 * @throws EngineError `engine.hub.unreachable | unauthorized | forbidden | not_found | corrupt | failed`
 */
export async function ensureFile(repo: RepoCache, file: string, settings: HubSettings): Promise<string> {
  const path = join(snapshotFolder(repo), file);
  if (await exists(path)) return path;
  const what = `${repo.id}/${file}`;
  const encoded = file.split('/').map(encodeURIComponent).join('/');
  const url = `${settings.endpoint}/${repo.id}/resolve/${repo.commit}/${encoded}`;
  const facts = await factsOf(url, what, settings);
  const blob = join(repo.folder, 'blobs', facts.etag);
  if (!(await exists(blob))) {
    await mkdir(dirname(blob), { recursive: true });
    const partial = `${blob}.incomplete`;
    await persist(settings, async (watchdog) => {
      await fetchRest({ url, file, what, path: partial, facts }, settings, watchdog);
    });
    await verify(partial, what, facts);
    await rename(partial, blob);
  }
  await link(blob, path);
  return path;
}
