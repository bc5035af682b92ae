import { randomUUID } from 'node:crypto';
import { mkdir, open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import type { Readable } from 'node:stream';
import type { BlobBackend, BlobContent } from './blobStore.ts';

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR');
}

/**
 * Blobs as files under one folder. A blob is written beside the others under a temporary name, synced, and renamed:
 * after a crash it is there whole or not at all.
 */
export class LocalBackend implements BlobBackend {
  readonly #root: string;

  constructor(root: string) {
    this.#root = resolve(root);
  }

  /** Temporary files live on the same volume, since a rename does not cross volumes. */
  get spoolDir(): string {
    return join(this.#root, '.spool');
  }

  async write(key: string, content: BlobContent): Promise<void> {
    const target = this.#pathOf(key);
    await mkdir(dirname(target), { recursive: true });
    await mkdir(this.spoolDir, { recursive: true });
    if ('path' in content) {
      // Our own file in the spool folder, synced already.
      await rename(content.path, target);
      await syncDirectory(dirname(target));
      return;
    }
    const temporary = join(this.spoolDir, `${randomUUID()}.tmp`);
    try {
      await writeFile(temporary, content.bytes, { flag: 'wx', mode: 0o600, flush: true });
      await rename(temporary, target);
      await syncDirectory(dirname(target));
    } finally {
      await rm(temporary, { force: true });
    }
  }

  async read(key: string): Promise<Readable | undefined> {
    try {
      const file = await open(this.#pathOf(key), 'r');
      return file.createReadStream();
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async size(key: string): Promise<number | undefined> {
    try {
      const found = await stat(this.#pathOf(key));
      return found.isFile() ? found.size : undefined;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async remove(key: string): Promise<void> {
    await rm(this.#pathOf(key), { force: true });
  }

  /** Keys are checked before they come here; this holds even if one were not. */
  #pathOf(key: string): string {
    const path = resolve(this.#root, key);
    if (!path.startsWith(this.#root + sep)) throw new Error('a key that leaves the folder');
    return path;
  }
}

/** Makes a rename durable. Windows has no such call and needs none. */
async function syncDirectory(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
