import type { Logger } from 'pino';
import type { Bus } from '../bus/bus.ts';
import { describeError } from '../errors.ts';
import type { FaultPoints } from '../faultPoints.ts';
import type { Database, Tx } from '../pg/database.ts';
import { Waker } from '../waker.ts';

const BATCH_ROWS = 200;
/** Rows whose own process died before it could say so leave within this time. */
const POLL_MS = 500;
const ERROR_BACKOFF_MS = 500;
const PRUNE_EVERY_MS = 10 * 60 * 1000;
const PRUNE_ROWS = 5_000;
/** Longer than any stream can be down before an operator looks; a lost tail is replayed from these rows. */
const KEEP = '7 days';

export interface RelayOptions {
  readonly pg: Database;
  readonly bus: Bus;
  readonly streams: readonly string[];
  readonly log: Logger;
  readonly faults: FaultPoints;
  /** Told the subject of each event that its stream has taken. */
  readonly onPublished?: (subject: string) => void;
}

interface DueRow {
  id: string;
  project_id: string;
  subject: string;
  headers: Record<string, string>;
  body: unknown;
}

/**
 * Carries committed outbox rows to the stream.
 *
 *   stopped -> checking tail -> draining <-> waiting -> stopped
 *                  ^________________| (reconnect)
 *
 * Rows are claimed with SKIP LOCKED and stay locked while they are published, so replicas share the work. A row is
 * marked only after the server's acknowledgement. A crash between the two publishes the row again with the same
 * message id: the stream's window or the consumer's inbox drops the second. Parallel relays do not keep order.
 */
export class OutboxRelay {
  readonly #options: RelayOptions;
  readonly #streamNames: ReadonlySet<string>;
  #running: Promise<void> | null = null;
  #stopping = false;
  #paused = false;
  #checkTail = true;
  readonly #waker = new Waker();

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#streamNames = new Set(options.streams);
    options.pg.onOutbox(() => this.wake());
    options.bus.onReconnect(() => {
      this.#checkTail = true;
      this.wake();
    });
  }

  start(): void {
    this.#running ??= this.#loop();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.wake();
    await this.#running;
  }

  /** Operators and tests: rows pile up, nothing is lost. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.wake();
  }

  /** Something was committed: look now rather than at the next poll. Calls between two looks are one. */
  wake(): void {
    this.#waker.wake();
  }

  async #loop(): Promise<void> {
    let pruneAt = Date.now() + PRUNE_EVERY_MS;
    while (!this.#stopping) {
      let moved = 0;
      try {
        if (!this.#paused && this.#options.bus.connected) {
          if (this.#checkTail) await this.#republishLostTails();
          moved = await this.#publishBatch();
        }
        if (Date.now() >= pruneAt) {
          pruneAt = Date.now() + PRUNE_EVERY_MS;
          await this.#options.pg.withService((tx) =>
            tx.query('SELECT messaging_prune($1::interval, $2)', [KEEP, PRUNE_ROWS]),
          );
        }
      } catch (error) {
        this.#options.log.warn({ reason: describeError(error) }, 'outbox relay: will retry');
        await this.#waker.wait(ERROR_BACKOFF_MS);
        continue;
      }
      if (moved < BATCH_ROWS && !this.#stopping) await this.#waker.wait(POLL_MS);
    }
  }

  async #publishBatch(): Promise<number> {
    const { pg, faults } = this.#options;
    return pg.withService(async (tx) => {
      const claimed = await tx.query<{ id: string; project_id: string }>(
        'SELECT id, project_id FROM outbox_claim($1)',
        [BATCH_ROWS],
      );
      const byProject = Map.groupBy(claimed, (row) => row.project_id);
      let moved = 0;
      for (const [projectId, rows] of byProject) {
        await tx.query(`SELECT set_config('tl.project', $1, true)`, [projectId]);
        const due = await readRows(
          tx,
          rows.map((row) => row.id),
        );
        faults.hit('outbox.before_publish');
        const settled = await Promise.allSettled(due.map((row) => this.#publish(row)));
        faults.hit('outbox.after_publish');
        const done = settled.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
        await markPublished(tx, done);
        moved += done.length;
        const failure = settled.find((result) => result.status === 'rejected');
        if (failure) {
          this.#options.log.warn(
            { failed: settled.length - done.length, reason: describeError(failure.reason) },
            'some events were not acknowledged by NATS; they stay in the outbox',
          );
          break;
        }
      }
      return moved;
    });
  }

  async #publish(row: DueRow): Promise<{ id: string; seq: number }> {
    const ack = await this.#options.bus.publish(row.subject, JSON.stringify(row.body), row.headers);
    this.#options.onPublished?.(row.subject);
    return { id: row.id, seq: ack.seq };
  }

  /**
   * After an unclean end the server may have lost the newest messages. The highest position that an outbox row notes
   * is compared with what the stream holds there; where it differs, the rows past the last agreement go out again.
   */
  async #republishLostTails(): Promise<void> {
    for (const stream of this.#streamNames) {
      let atMost = Number.MAX_SAFE_INTEGER;
      let step = 1;
      let firstLost: number | null = null;
      for (;;) {
        const row = await this.#options.pg.withService((tx) =>
          tx.one<{ id: string; stream_seq: number }>('SELECT id, stream_seq FROM outbox_tail($1, $2)', [
            stream,
            atMost,
          ]),
        );
        if (!row || (await this.#streamHolds(stream, row.stream_seq, row.id))) break;
        firstLost = row.stream_seq;
        // Doubling steps: going back too far only republishes what consumers already know and drop.
        atMost = row.stream_seq - step;
        step *= 2;
      }
      if (firstLost === null) continue;
      const again = await this.#options.pg.withService((tx) =>
        tx.one<{ n: number }>('SELECT outbox_republish($1, $2) AS n', [stream, atMost]),
      );
      this.#options.log.error({ stream, rows: again?.n }, 'the stream had lost its tail; its rows go out again');
    }
    this.#checkTail = false;
  }

  async #streamHolds(stream: string, seq: number, id: string): Promise<boolean> {
    try {
      const message = await this.#options.bus.jsm.streams.getMessage(stream, { seq });
      if (message === null) return this.#isTrimmed(stream, seq);
      return message.header.get('Nats-Msg-Id') === id;
    } catch (error) {
      const status = (error as { code?: unknown; status?: unknown }).status ?? (error as { code?: unknown }).code;
      if (status === 404 || status === 10037) return this.#isTrimmed(stream, seq);
      throw error;
    }
  }

  /** Gone because of age, not because of a crash. */
  async #isTrimmed(stream: string, seq: number): Promise<boolean> {
    const info = await this.#options.bus.jsm.streams.info(stream);
    return seq < info.state.first_seq && seq <= info.state.last_seq;
  }
}

async function readRows(tx: Tx, ids: readonly string[]): Promise<DueRow[]> {
  return tx.query<DueRow>(
    'SELECT id, project_id, subject, headers, body FROM outbox WHERE id = ANY($1::uuid[]) ORDER BY seq',
    [ids],
  );
}

async function markPublished(tx: Tx, done: readonly { id: string; seq: number }[]): Promise<void> {
  if (done.length === 0) return;
  await tx.execute(
    `UPDATE outbox o SET published_at = now(), stream_seq = d.seq
     FROM unnest($1::uuid[], $2::bigint[]) AS d(id, seq) WHERE o.id = d.id`,
    [done.map((row) => row.id), done.map((row) => row.seq)],
  );
}
