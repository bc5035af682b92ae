import { describeError } from '@tuneloop/runtime/errors';
import type { Job } from '@tuneloop/runtime/service';
import type { IngestContext } from '../config.ts';
import { findDueBlobSweeps } from '../store/blobs.ts';
import { pruneFetches } from '../store/fetches.ts';
import { sweepBlob } from '../usecases/storeBlob.ts';

const POLL_MS = 5_000;
const BATCH = 50;
/** Settled fetches answer a sender who asks what became of an item; this long. */
const KEEP_FETCHES_DAYS = 7;
const PRUNE_EVERY_MS = 600_000;
const PRUNE_ROWS = 5_000;

/**
 * Deletes blobs that nothing refers to: of uploads that were killed half-way, and of erased items; and old settled
 * fetches. Any number of processes may run it: a sweep locks its row and its blob.
 *
 *   waiting -> round -> waiting … -> stopped
 */
export class Sweeper implements Job {
  readonly name = 'sweeper';
  readonly #ctx: IngestContext;
  #stopping = false;
  #running: Promise<void> | null = null;
  #wake: (() => void) | null = null;
  #woken = false;
  #prunedAtMs = 0;

  constructor(ctx: IngestContext) {
    this.#ctx = ctx;
  }

  start(): void {
    this.#running ??= this.#loop();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.wake();
    await this.#running;
  }

  /** Something was just erased. */
  wake(): void {
    this.#woken = true;
    this.#wake?.();
  }

  async #loop(): Promise<void> {
    while (!this.#stopping) {
      this.#woken = false;
      try {
        await this.#round();
      } catch (error) {
        this.#ctx.log.warn({ reason: describeError(error) }, 'sweeping blobs failed; will retry');
      }
      if (this.#stopping || this.#woken) continue;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, POLL_MS);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = null;
    }
  }

  async #round(): Promise<void> {
    const { pg, clock } = this.#ctx;
    if (clock().getTime() - this.#prunedAtMs > PRUNE_EVERY_MS) {
      await pg.withService((tx) => pruneFetches(tx, KEEP_FETCHES_DAYS, PRUNE_ROWS));
      this.#prunedAtMs = clock().getTime();
    }
    const due = await pg.withService((tx) => findDueBlobSweeps(tx, clock(), BATCH));
    for (const { id, project_id: projectId } of due) {
      try {
        await pg.withTenant(projectId, (tx) => sweepBlob(tx, this.#ctx, id));
      } catch (error) {
        this.#ctx.log.warn({ id, reason: describeError(error) }, 'a blob could not be swept; will retry');
      }
    }
  }
}
