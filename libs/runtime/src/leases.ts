import type { Logger } from 'pino';
import { describeError } from './errors.ts';
import type { Database, Tx } from './pg/database.ts';
import { Waker } from './waker.ts';

/**
 * Long work as a leased row, never as a held message.
 *
 * The table has `lease_owner text, lease_epoch int NOT NULL DEFAULT 0, lease_until timestamptz`, and a SECURITY
 * DEFINER function `claim(owner text, lease_ms int, max_rows int) RETURNS TABLE (id uuid, project_id uuid, epoch int)`
 * that takes due rows whose lease is absent or past (`FOR UPDATE SKIP LOCKED`), sets owner and until, and adds one to
 * the epoch. The epoch is the fence: every write of the worker names it, and a worker that was taken over writes nothing.
 *
 *   due -> leased (heartbeat renews) -> settled by the work itself
 *             |-- heartbeats stop, lease_until passes --> due again, epoch + 1
 */
export interface Lease {
  readonly id: string;
  readonly projectId: string;
  readonly epoch: number;
  /** Fires when the lease is lost or the pool stops: stop working, write nothing more. */
  readonly signal: AbortSignal;
}

export interface LeasedPoolOptions {
  readonly pg: Database;
  readonly log: Logger;
  /** Unqualified table and claim function in the service's schema. */
  readonly table: string;
  readonly claimFunction: string;
  /** Unique per process. */
  readonly owner: string;
  readonly concurrency: number;
  readonly leaseMs: number;
  readonly heartbeatMs: number;
  readonly pollMs: number;
  readonly work: (lease: Lease) => Promise<void>;
}

/** Thrown by `assertLease` in a transaction whose lease another worker has taken. */
export class LeaseLostError extends Error {
  override readonly name = 'LeaseLostError';
}

/** Locks the row for this transaction and makes sure that the lease is still ours. First statement of each write. */
export async function assertLease(tx: Tx, table: string, lease: Pick<Lease, 'id' | 'epoch'>): Promise<void> {
  const row = await tx.one<{ lease_epoch: number }>(`SELECT lease_epoch FROM ${table} WHERE id = $1 FOR UPDATE`, [
    lease.id,
  ]);
  if (row?.lease_epoch !== lease.epoch) throw new LeaseLostError(`${table} ${lease.id}: epoch ${lease.epoch} is over`);
}

/** Claims due rows, works on at most `concurrency` of them, renews their leases, and gives up those that it lost. */
export class LeasedPool {
  readonly #options: LeasedPoolOptions;
  readonly #active = new Map<string, { controller: AbortController; done: Promise<void> }>();
  #stopping = false;
  #running: Promise<void> | null = null;
  readonly #waker = new Waker();

  constructor(options: LeasedPoolOptions) {
    for (const name of [options.table, options.claimFunction]) {
      if (!/^[a-z_][a-z0-9_]*$/.test(name)) throw new Error(`"${name}" is not a plain identifier`);
    }
    this.#options = options;
  }

  start(): void {
    this.#running ??= this.#loop();
  }

  /** Stops claiming and asks what is running to stop; its leases end by themselves or are released by the work. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.wake();
    for (const { controller } of this.#active.values()) controller.abort(new LeaseLostError('shutting down'));
    await this.#running;
    await Promise.allSettled([...this.#active.values()].map((entry) => entry.done));
  }

  /** Due work was just committed. */
  wake(): void {
    this.#waker.wake();
  }

  get active(): number {
    return this.#active.size;
  }

  async #loop(): Promise<void> {
    const { log, concurrency, pollMs, table } = this.#options;
    while (!this.#stopping) {
      try {
        const free = concurrency - this.#active.size;
        if (free > 0) await this.#claim(free);
      } catch (error) {
        log.warn({ table, reason: describeError(error) }, 'claiming leased work failed; will retry');
      }
      await this.#waker.wait(pollMs);
    }
  }

  async #claim(free: number): Promise<void> {
    const { pg, owner, leaseMs, claimFunction } = this.#options;
    const rows = await pg.withService((tx) =>
      tx.query<{ id: string; project_id: string; epoch: number }>(
        `SELECT id, project_id, epoch FROM ${claimFunction}($1, $2, $3)`,
        [owner, leaseMs, free],
      ),
    );
    for (const row of rows) this.#run(row.id, row.project_id, row.epoch);
  }

  #run(id: string, projectId: string, epoch: number): void {
    const { log, table, heartbeatMs } = this.#options;
    const controller = new AbortController();
    const lease: Lease = { id, projectId, epoch, signal: controller.signal };
    let renewedAt = Date.now();
    const heartbeat = setInterval(() => {
      this.#renew(lease)
        .then((held) => {
          if (held) renewedAt = Date.now();
          else controller.abort(new LeaseLostError(`${table} ${id} was taken over`));
        })
        .catch((error: unknown) => {
          log.warn({ table, id, reason: describeError(error) }, 'heartbeat failed');
          if (Date.now() - renewedAt > this.#options.leaseMs)
            controller.abort(new LeaseLostError('no heartbeat in time'));
        });
    }, heartbeatMs);
    const done = this.#options
      .work(lease)
      .catch((error: unknown) => {
        const level = error instanceof LeaseLostError || controller.signal.aborted ? 'info' : 'error';
        log[level]({ table, id, reason: describeError(error) }, 'leased work ended with an error');
      })
      .finally(() => {
        clearInterval(heartbeat);
        this.#active.delete(id);
        this.wake();
      });
    this.#active.set(id, { controller, done });
  }

  async #renew(lease: Lease): Promise<boolean> {
    const { pg, table, leaseMs } = this.#options;
    const renewed = await pg.withTenant(lease.projectId, (tx) =>
      tx.execute(
        `UPDATE ${table} SET lease_until = now() + make_interval(secs => $3::float8 / 1000)
         WHERE id = $1 AND lease_epoch = $2 AND lease_until IS NOT NULL`,
        [lease.id, lease.epoch, leaseMs],
      ),
    );
    return renewed === 1;
  }
}
