import { AckPolicy, DeliverPolicy, type JsMsg } from '@nats-io/jetstream';
import { type EventContract, eventSubject, streamName } from '@tuneloop/contracts/event';
import { EVENTS, PUBLISHERS } from '@tuneloop/contracts/registry';
import { fromHeaders } from '@tuneloop/runtime/bus/bus';
import { describeError } from '@tuneloop/runtime/errors';
import { projectOfSubject } from '@tuneloop/runtime/inbox/handler';
import type { Job } from '@tuneloop/runtime/service';
import { nanos } from 'nats';
import type { GatewayContext } from '../config.ts';

/** A client that falls this far behind is cut off; it resumes by Last-Event-ID. */
const MAX_BUFFERED = 1_000;
/** Most events that a resuming client is caught up with; further back it should read the lists. */
const MAX_REPLAYED = 1_000;
const REPLAY_EXPIRES_MS = 1_000;
/** The server drops a replay's consumer when its client went away. */
const REPLAY_CONSUMER_TTL_MS = 30_000;
const RETRY_MS = 1_000;

export interface LiveEvent {
  /** UUIDv7: later events have greater ids, to the millisecond. */
  readonly id: string;
  readonly type: string;
  readonly data: string;
}

/**
 * One feed of all streams for the whole process, fanned out to its clients by project. It begins at "now" and keeps
 * nothing: what was before is read from the streams when a client resumes.
 *
 *   stopped -> one ordered consumer a stream -> (connection lost: the client library resumes it) -> stopped
 */
export class LiveFeed implements Job {
  readonly name = 'live-feed';
  readonly #ctx: GatewayContext;
  readonly #clients = new Map<string, Set<ClientQueue>>();
  readonly #closers: (() => Promise<unknown>)[] = [];
  #stopping = false;

  constructor(ctx: GatewayContext) {
    this.#ctx = ctx;
  }

  start(): void {
    for (const owner of PUBLISHERS) void this.#follow(streamName(owner));
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    // Streams end here, so that the HTTP server has nothing to wait for.
    for (const set of this.#clients.values()) for (const queue of set) queue.close();
    await Promise.allSettled(this.#closers.map((close) => close()));
  }

  /** Events of the project go into the queue from now on. Returns the end of it. */
  subscribe(projectId: string, queue: ClientQueue): () => void {
    const set = this.#clients.get(projectId) ?? new Set();
    this.#clients.set(projectId, set.add(queue));
    return () => {
      set.delete(queue);
      if (set.size === 0) this.#clients.delete(projectId);
    };
  }

  /** What the project's streams hold of these types (null: all) after the event `lastId`, oldest first. */
  async since(projectId: string, lastId: string, types: ReadonlySet<string> | null): Promise<LiveEvent[]> {
    const from = new Date(timeOfUuid7(lastId));
    const wanted = EVENTS.filter((event) => types === null || types.has(event.type));
    // A consumer a type: servers before 2.10 take one filter, and only one that lies inside a subject of the stream.
    const parts = await Promise.all(wanted.map((event) => this.#read(event, projectId, from)));
    return parts
      .flat()
      .filter((event) => event.id > lastId)
      .toSorted((a, b) => a.id.localeCompare(b.id))
      .slice(0, MAX_REPLAYED);
  }

  async #follow(stream: string): Promise<void> {
    while (!this.#stopping) {
      try {
        const consumer = await this.#ctx.bus.js.consumers.get(stream, { deliver_policy: DeliverPolicy.New });
        const messages = await consumer.consume({ max_messages: 100, expires: 5_000 });
        this.#closers.push(() => messages.close());
        for await (const message of messages) this.#deliver(message);
      } catch (error) {
        if (this.#stopping) return;
        this.#ctx.log.warn({ stream, reason: describeError(error) }, 'live feed interrupted; will follow again');
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  #deliver(message: JsMsg): void {
    const set = this.#clients.get(projectOfSubject(message.subject));
    if (!set) return;
    const event = toLiveEvent(message);
    for (const queue of set) queue.push(event);
  }

  async #read(contract: EventContract, projectId: string, from: Date): Promise<LiveEvent[]> {
    const { js, jsm } = this.#ctx.bus;
    const stream = streamName(contract.owner);
    const { name, num_pending: pending } = await jsm.consumers.add(stream, {
      ack_policy: AckPolicy.None,
      deliver_policy: DeliverPolicy.StartTime,
      opt_start_time: from.toISOString(),
      filter_subject: eventSubject(contract, projectId),
      inactive_threshold: nanos(REPLAY_CONSUMER_TTL_MS),
    });
    const wanted = Math.min(pending, MAX_REPLAYED);
    if (wanted === 0) return [];
    const events: LiveEvent[] = [];
    const consumer = await js.consumers.get(stream, name);
    const messages = await consumer.fetch({ max_messages: wanted, expires: REPLAY_EXPIRES_MS });
    for await (const message of messages) events.push(toLiveEvent(message));
    return events;
  }
}

/** A bounded queue between the feed and one client. `overflowed` once it has been outrun. */
export class ClientQueue {
  readonly #items: LiveEvent[] = [];
  #wake: (() => void) | null = null;
  #closed = false;
  overflowed = false;

  push(event: LiveEvent): void {
    if (this.#items.length >= MAX_BUFFERED) {
      this.overflowed = true;
      this.close();
      return;
    }
    this.#items.push(event);
    this.#wake?.();
  }

  close(): void {
    this.#closed = true;
    this.#wake?.();
  }

  /** The next event; null after `idleMs` without one; undefined once closed. */
  async next(idleMs: number): Promise<LiveEvent | null | undefined> {
    if (this.#items.length === 0 && !this.#closed) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, idleMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = null;
    }
    if (this.#closed) return undefined;
    return this.#items.shift() ?? null;
  }
}

function toLiveEvent(message: JsMsg): LiveEvent {
  const headers = fromHeaders(message.headers);
  return {
    id: headers['ce-id'] ?? '',
    type: (headers['ce-type'] ?? '').replace('tuneloop.', ''),
    data: JSON.stringify({
      type: (headers['ce-type'] ?? '').replace('tuneloop.', ''),
      time: headers['ce-time'],
      subject: headers['ce-subject'],
      correlation_id: headers['ce-correlationid'] ?? null,
      data: message.json(),
    }),
  };
}

/** Milliseconds in the first 48 bits (RFC 9562, 5.7). */
function timeOfUuid7(id: string): number {
  return Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16);
}
