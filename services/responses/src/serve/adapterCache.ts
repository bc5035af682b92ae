import { EngineError } from '@tuneloop/engine/errors';
import type { LoraWeights } from '@tuneloop/engine/types';
import { AppError } from '@tuneloop/runtime/errors';
import { artefactRefused } from './adapterArtefact.ts';

export interface AdapterRef {
  readonly checkpointId: string;
  readonly projectId: string;
  /** Absent: only an adapter that is loaded already can be used. */
  readonly storageKey: string | undefined;
}

export interface AdapterCacheOptions {
  readonly maxAdapters: number;
  readonly read: (projectId: string, storageKey: string) => Promise<LoraWeights>;
  /** Offers an adapter to the sampler under its checkpoint's id. */
  readonly add: (name: string, lora: LoraWeights) => void;
  readonly remove: (name: string) => void;
}

interface Entry {
  readonly projectId: string;
  readonly storageKey: string;
  readonly ready: Promise<void>;
  /** Answers being sampled with it: it is not evicted under them. */
  users: number;
}

/** Loads of adapters that one process works on at a time; each holds a whole adapter in memory. */
const MAX_LOADING = 4;

/**
 * The adapters that one base holds, the least recently used going first when there are too many.
 *
 *   absent -> loading -> loaded (in use by n answers) -> evicted
 *                `-> failed, which leaves it absent
 *
 * A checkpoint's name is immutable: once loaded from one key, it is never replaced by other bytes.
 */
export class AdapterCache {
  readonly #options: AdapterCacheOptions;
  /** In the order of last use. */
  readonly #entries = new Map<string, Entry>();
  #loading = 0;

  constructor(options: AdapterCacheOptions) {
    this.#options = options;
  }

  /** Ids of the project's loaded checkpoints. */
  loaded(projectId: string): string[] {
    return [...this.#entries].filter(([, entry]) => entry.projectId === projectId).map(([id]) => id);
  }

  /**
   * Makes an adapter ready and keeps it until `release`.
   * @throws AppError 404 when it is not loaded and no key is given, 409 for another key, 422, 503
   */
  async acquire(ref: AdapterRef): Promise<{ release: () => void }> {
    const entry = this.#find(ref) ?? this.#load(ref);
    entry.users++;
    let released = false;
    const release = (): void => {
      if (!released) entry.users--;
      released = true;
    };
    try {
      await entry.ready;
      return { release };
    } catch (error) {
      release();
      throw error;
    }
  }

  #find(ref: AdapterRef): Entry | undefined {
    const entry = this.#entries.get(ref.checkpointId);
    if (!entry) return undefined;
    if (entry.projectId !== ref.projectId) throw unknownCheckpoint(ref.checkpointId);
    if (ref.storageKey !== undefined && ref.storageKey !== entry.storageKey) {
      throw new AppError({
        code: 'serve.adapter.changed',
        status: 409,
        message: `Checkpoint ${ref.checkpointId} is loaded from another key: a new adapter needs a new checkpoint.`,
        field: 'storage_key',
        retry: false,
      });
    }
    this.#entries.delete(ref.checkpointId);
    this.#entries.set(ref.checkpointId, entry);
    return entry;
  }

  #load(ref: AdapterRef): Entry {
    const { checkpointId, projectId, storageKey } = ref;
    if (storageKey === undefined) throw unknownCheckpoint(checkpointId);
    this.#makeRoom();
    if (this.#loading >= MAX_LOADING) throw busy('Too many adapters are being loaded. Try again in a moment.');
    this.#loading++;
    const entry: Entry = { projectId, storageKey, ready: this.#read(checkpointId, projectId, storageKey), users: 0 };
    this.#entries.set(checkpointId, entry);
    return entry;
  }

  async #read(checkpointId: string, projectId: string, storageKey: string): Promise<void> {
    try {
      const lora = await this.#options.read(projectId, storageKey);
      this.#options.add(checkpointId, lora);
    } catch (error) {
      this.#entries.delete(checkpointId);
      throw error instanceof EngineError ? artefactRefused(error.message, error) : error;
    } finally {
      this.#loading--;
    }
  }

  #makeRoom(): void {
    if (this.#entries.size < this.#options.maxAdapters) return;
    for (const [checkpointId, entry] of this.#entries) {
      if (entry.users > 0) continue;
      this.#entries.delete(checkpointId);
      this.#options.remove(checkpointId);
      return;
    }
    throw busy('All adapters that fit into memory are in use. Try again in a moment.');
  }
}

function unknownCheckpoint(checkpointId: string): AppError {
  return new AppError({
    code: 'serve.model.not_found',
    status: 404,
    message: `Checkpoint ${checkpointId} is not loaded here.`,
    field: 'model',
  });
}

function busy(message: string): AppError {
  return new AppError({ code: 'serve.adapters_busy', status: 503, message, retry: true });
}
