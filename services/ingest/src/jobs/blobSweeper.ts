import { describeError } from '@tuneloop/runtime/errors';
import type { Job } from '@tuneloop/runtime/service';
import type { IngestContext } from '../config.ts';
import { findDueBlobSweeps } from '../store/blobs.ts';
import { sweepBlob } from '../usecases/storeBlob.ts';

const POLL_MS = 5_000;
const BATCH = 50;

/**
 * Deletes blobs that nothing refers to: of uploads that were killed half-way, and of erased items. Any number of
 * processes may run it: a sweep locks its row and its blob.
 *
 *   waiting -> round -> waiting … -> stopped
 */
export class BlobSweeper implements Job {
  readonly name = 'blob_sweeper';
  readonly #ctx: IngestContext;
  #stopping = false;
  #running: Promise<void> | null = null;
  #wake: (() => void) | null = null;
  #woken = false;

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
