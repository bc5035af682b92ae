import { ApiError, isPassing, isRefusedKey } from '../api/http.ts';
import type { Judgement } from '../api/review.ts';

/** Something a reviewer did. It is on the device before it is on its way, and stays until the server has it. */
export type Deed =
  | { readonly kind: 'judge'; readonly itemId: string; readonly body: Judgement }
  | { readonly kind: 'skip'; readonly itemId: string }
  /** Takes an earlier judgement or skip back. */
  | { readonly kind: 'undo'; readonly itemId: string; readonly of: string; readonly what: 'judge' | 'skip' };

export interface Entry {
  /** Also its Idempotency-Key: sent again it is still the same deed. */
  readonly id: string;
  readonly deed: Deed;
  /** It may have reached the server, even if no answer came back. */
  readonly tried: boolean;
}

export interface Transport {
  /** Returns the feedback's id. */
  judge(body: Judgement, idempotencyKey: string): Promise<string>;
  skip(itemId: string, idempotencyKey: string): Promise<void>;
  takeBack(feedbackId: string): Promise<void>;
  unskip(itemId: string): Promise<void>;
}

export interface OutboxState {
  readonly pending: readonly Entry[];
  /** sending: all is well. waiting: the server cannot be reached. refused: the key does not work. */
  readonly status: 'idle' | 'sending' | 'waiting' | 'refused';
  /** Deeds that the server would not take, ever: the answer was removed meanwhile. */
  readonly dropped: number;
}

export interface OutboxOptions {
  readonly storage: Pick<Storage, 'getItem' | 'setItem' | 'removeItem' | 'key' | 'length'>;
  readonly transport: Transport;
  /** Whose deeds: another key never sends them. */
  readonly owner: string;
  /** Calls back after a wait; returns how to call it off. */
  readonly later?: (work: () => void, ms: number) => () => void;
  readonly newId?: () => string;
}

const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;
/** Ids of feedback that can still be taken back after the page was opened again. */
const MAX_SENT_KEPT = 50;
const SEQUENCE_DIGITS = 16;

/**
 * Sends a reviewer's deeds in the order they were done, one at a time.
 *
 * idle -> sending (a deed is added, or some are left from last time) -> idle when all are sent; sending -> waiting when
 * the server cannot be reached -> sending after a pause or on `wake`; sending -> refused for good when the key is.
 * Each deed is a record of its own in the storage, so that two tabs never overwrite each other's; sent by both it is
 * still one, by its Idempotency-Key.
 */
export class Outbox {
  readonly #options: Required<OutboxOptions>;
  readonly #watchers = new Set<() => void>();
  #state: OutboxState;
  #busy = false;
  #stopped = true;
  #failures = 0;
  #sequence = Date.now();
  #callOff: (() => void) | undefined;

  constructor(options: OutboxOptions) {
    this.#options = { later: defaultLater, newId: () => crypto.randomUUID(), ...options };
    this.#state = { pending: this.#stored(), status: 'idle', dropped: 0 };
  }

  get state(): OutboxState {
    return this.#state;
  }

  /** For React's external stores. */
  watch = (notify: () => void): (() => void) => {
    this.#watchers.add(notify);
    return () => this.#watchers.delete(notify);
  };

  /** Keeps a deed and sends it as soon as it can. Returns its id, for `undo`. */
  add(deed: Deed): string {
    const id = this.#options.newId();
    this.#write({ id, deed, tried: false });
    this.#change({ pending: this.#stored() });
    this.wake();
    return id;
  }

  /** Takes a deed back: forgets it if it never left, else has the server take it back in its turn. */
  undo(id: string, deed: Exclude<Deed, { kind: 'undo' }>): void {
    const stored = this.#stored().find((entry) => entry.id === id);
    if (stored && !stored.tried) {
      this.#remove(id);
      this.#change({ pending: this.#stored() });
      return;
    }
    this.add({ kind: 'undo', itemId: deed.itemId, of: id, what: deed.kind });
  }

  /** Sends what is left, now. */
  wake(): void {
    this.#callOff?.();
    this.#callOff = undefined;
    if (!this.#busy && !this.#stopped && this.#state.status !== 'refused') void this.#run();
  }

  /** Begins to send, first what is left from last time. */
  start(): void {
    this.#stopped = false;
    this.wake();
  }

  stop(): void {
    this.#stopped = true;
    this.#callOff?.();
  }

  async #run(): Promise<void> {
    this.#busy = true;
    try {
      for (let entry = this.#stored()[0]; entry && !this.#stopped; entry = this.#stored()[0]) {
        this.#change({ status: 'sending' });
        this.#write({ ...entry, tried: true });
        await this.#send(entry);
        this.#failures = 0;
        this.#remove(entry.id);
        this.#change({ pending: this.#stored() });
      }
      this.#change({ status: 'idle' });
    } catch (error) {
      this.#change({ pending: this.#stored(), status: isRefusedKey(error) ? 'refused' : 'waiting' });
      if (!isRefusedKey(error)) this.#tryLater();
    } finally {
      this.#busy = false;
    }
  }

  /** @throws when it should be tried again; what is refused for good is dropped. */
  async #send({ id, deed }: Entry): Promise<void> {
    const { transport } = this.#options;
    try {
      if (deed.kind === 'judge') this.#noteSent(id, await transport.judge(deed.body, id));
      else if (deed.kind === 'skip') await transport.skip(deed.itemId, id);
      else if (deed.what === 'skip') await transport.unskip(deed.itemId);
      else {
        const feedbackId = this.#sent().get(deed.of);
        if (feedbackId !== undefined) await transport.takeBack(feedbackId);
      }
    } catch (error) {
      if (isPassing(error) || isRefusedKey(error) || !(error instanceof ApiError)) throw error;
      // Taking back what is gone already is done, not refused.
      if (deed.kind === 'judge') this.#change({ dropped: this.#state.dropped + 1 });
    }
  }

  #tryLater(): void {
    const wait = Math.min(FIRST_WAIT_MS * 2 ** this.#failures++, LONGEST_WAIT_MS);
    this.#callOff = this.#options.later(() => this.wake(), wait);
  }

  #change(changes: Partial<OutboxState>): void {
    this.#state = { ...this.#state, ...changes };
    for (const notify of this.#watchers) notify();
  }

  get #prefix(): string {
    return `tuneloop.outbox.${this.#options.owner}.`;
  }

  /** Names of stored deeds, oldest first. */
  #names(): string[] {
    const { storage } = this.#options;
    const names: string[] = [];
    for (let i = 0; i < storage.length; i++) {
      const name = storage.key(i);
      if (name?.startsWith(this.#prefix)) names.push(name);
    }
    return names.toSorted();
  }

  #stored(): Entry[] {
    return this.#names().flatMap((name) => {
      const text = this.#options.storage.getItem(name);
      return text === null ? [] : [JSON.parse(text) as Entry];
    });
  }

  #write(entry: Entry): void {
    const known = this.#names().find((name) => name.endsWith(`.${entry.id}`));
    // Never before what is there already, also when the clock was set back.
    const newest = Number(this.#names().at(-1)?.slice(this.#prefix.length).split('.', 1)[0] ?? 0);
    if (known === undefined) this.#sequence = Math.max(this.#sequence, newest) + 1;
    const name = known ?? `${this.#prefix}${String(this.#sequence).padStart(SEQUENCE_DIGITS, '0')}.${entry.id}`;
    this.#options.storage.setItem(name, JSON.stringify(entry));
  }

  #remove(id: string): void {
    for (const name of this.#names()) if (name.endsWith(`.${id}`)) this.#options.storage.removeItem(name);
  }

  get #sentName(): string {
    return `tuneloop.sent.${this.#options.owner}`;
  }

  #sent(): Map<string, string> {
    const text = this.#options.storage.getItem(this.#sentName);
    return new Map(text === null ? [] : (JSON.parse(text) as [string, string][]));
  }

  #noteSent(id: string, feedbackId: string): void {
    const sent = [...this.#sent().set(id, feedbackId)].slice(-MAX_SENT_KEPT);
    this.#options.storage.setItem(this.#sentName, JSON.stringify(sent));
  }
}

function defaultLater(work: () => void, ms: number): () => void {
  const timer = setTimeout(work, ms);
  return () => clearTimeout(timer);
}
