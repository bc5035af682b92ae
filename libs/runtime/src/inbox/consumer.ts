import type { Consumer, JsMsg } from '@nats-io/jetstream';
import type { Logger } from 'pino';
import { type Bus, fromHeaders } from '../bus/bus.ts';
import { ACK_WAIT_MS, provisionConsumer } from '../bus/provision.ts';
import { AppError, describeError } from '../errors.ts';
import type { FaultPoints } from '../faultPoints.ts';
import { newId } from '../ids.ts';
import type { Database } from '../pg/database.ts';
import { runWithTrace, startTrace } from '../trace.ts';
import { type MessageHandler, projectOfSubject, type ReceivedEvent } from './handler.ts';

/** One pull asks for this many; what is prefetched waits out its ack_wait here, so it stays small. */
const PULL_MESSAGES = 32;
/** After a change of leadership a pull can idle: it ends within this time and the next one finds the new leader. */
const PULL_EXPIRES_MS = 5_000;
const DEFAULT_CONCURRENCY = 4;
const LOOP_ERROR_BACKOFF_MS = 500;
/** A passing failure becomes a dead letter after this many deliveries: about an hour with the waits below. */
const MAX_DELIVERIES = 30;
const NAK_WAITS_MS = [100, 250, 500, 1_000, 2_000, 5_000, 15_000, 30_000, 60_000, 120_000, 300_000] as const;
const WORKING_EVERY_MS = ACK_WAIT_MS / 3;

export interface ConsumerLoopOptions<Ctx> {
  readonly service: string;
  readonly handler: MessageHandler<Ctx>;
  readonly ctx: Ctx;
  readonly pg: Database;
  readonly bus: Bus;
  readonly log: Logger;
  readonly faults: FaultPoints;
  readonly onHandled?: (outcome: 'done' | 'duplicate' | 'retry' | 'dead', seconds: number) => void;
}

/**
 * The loop of one durable consumer.
 *
 *   pulling -> handling (bounded) -> pulling … -> draining -> stopped
 *
 * Per message: inbox row, effects and outbox rows commit in one transaction, then it is acked. A crash before the
 * commit leaves nothing and the message comes again; a crash after it leaves the inbox row, which the redelivery
 * meets and acks. Passing failures nak with growing waits; final ones store a dead letter, then a bare term.
 */
export class ConsumerLoop<Ctx> {
  readonly #options: ConsumerLoopOptions<Ctx>;
  readonly durable: string;
  readonly #inFlight = new Set<Promise<void>>();
  #stopping = false;
  #running: Promise<void> | null = null;
  #pull: { close(): Promise<void | Error> } | null = null;

  constructor(options: ConsumerLoopOptions<Ctx>) {
    this.#options = options;
    this.durable = `${options.service}__${options.handler.name}`;
  }

  start(): void {
    this.#running ??= this.#loop();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#pull?.close();
    await this.#running;
  }

  async #loop(): Promise<void> {
    const { bus, handler, log } = this.#options;
    let consumer: Consumer | null = null;
    while (!this.#stopping) {
      try {
        consumer ??= await this.#bind();
        const messages = await consumer.fetch({ max_messages: PULL_MESSAGES, expires: PULL_EXPIRES_MS });
        this.#pull = messages;
        for await (const message of messages) await this.#accept(message);
      } catch (error) {
        consumer = null;
        if (this.#stopping) break;
        log.warn({ consumer: this.durable, reason: describeError(error) }, 'pull failed; will bind again');
        await new Promise((resolve) => setTimeout(resolve, LOOP_ERROR_BACKOFF_MS));
        if (bus.connected) await provisionConsumer(bus, this.#declaration(), log).catch(() => undefined);
      } finally {
        this.#pull = null;
      }
    }
    await Promise.allSettled(this.#inFlight);
    log.debug({ consumer: handler.name }, 'consumer stopped');
  }

  #declaration() {
    const { handler } = this.#options;
    return { stream: handler.stream, durable: this.durable, filter: handler.filter };
  }

  async #bind(): Promise<Consumer> {
    return this.#options.bus.js.consumers.get(this.#options.handler.stream, this.durable);
  }

  async #accept(message: JsMsg): Promise<void> {
    const limit = this.#options.handler.concurrency ?? DEFAULT_CONCURRENCY;
    while (this.#inFlight.size >= limit) await Promise.race(this.#inFlight);
    if (this.#stopping) {
      message.nak();
      return;
    }
    const work: Promise<void> = this.#handle(message).finally(() => this.#inFlight.delete(work));
    this.#inFlight.add(work);
  }

  async #handle(message: JsMsg): Promise<void> {
    const started = performance.now();
    const keepAlive = setInterval(() => message.working(), WORKING_EVERY_MS);
    let outcome: 'done' | 'duplicate' | 'retry' | 'dead';
    try {
      const event = this.#options.handler.parse(message);
      const fresh = await runWithTrace(startTrace(event.traceparent), () => this.#apply(event));
      this.#options.faults.hit('inbox.before_ack');
      message.ack();
      this.#options.faults.hit('inbox.after_ack');
      outcome = fresh ? 'done' : 'duplicate';
    } catch (error) {
      outcome = await this.#fail(message, error);
    } finally {
      clearInterval(keepAlive);
    }
    this.#options.onHandled?.(outcome, (performance.now() - started) / 1000);
  }

  /** Returns false when the inbox knows the event already. */
  async #apply(event: ReceivedEvent<unknown>): Promise<boolean> {
    const { pg, handler, ctx, faults } = this.#options;
    return pg.withTenant(
      event.projectId,
      async (tx) => {
        const inserted = await tx.execute(
          `INSERT INTO inbox (consumer, event_id, project_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
          [this.durable, event.id, event.projectId],
        );
        if (inserted === 0) return false;
        await handler.handle(tx, event, ctx);
        faults.hit('inbox.before_commit');
        return true;
      },
      { actor: event.actor ?? `service:${this.#options.service}` },
    );
  }

  async #fail(message: JsMsg, error: unknown): Promise<'retry' | 'dead'> {
    const { log, handler, ctx } = this.#options;
    const deliveries = message.info.deliveryCount;
    const final = (error instanceof AppError && !error.retry) || deliveries >= MAX_DELIVERIES;
    if (!final) {
      const waitMs = NAK_WAITS_MS[Math.min(deliveries, NAK_WAITS_MS.length) - 1]!;
      log.warn(
        { consumer: this.durable, deliveries, waitMs, reason: describeError(error) },
        'handler failed; will retry',
      );
      message.nak(waitMs);
      return 'retry';
    }
    try {
      await this.#storeDeadLetter(message, error);
      const rejection =
        error instanceof AppError
          ? error
          : new AppError({
              code: 'runtime.event.exhausted',
              status: 500,
              retry: false,
              message: 'too many attempts',
              cause: error,
            });
      await handler.onRejected?.(message, rejection, ctx);
      message.term();
      log.error({ consumer: this.durable, deliveries, reason: describeError(error) }, 'message became a dead letter');
      return 'dead';
    } catch (storeError) {
      log.error({ consumer: this.durable, reason: describeError(storeError) }, 'dead letter not stored; will retry');
      message.nak(NAK_WAITS_MS.at(-1));
      return 'retry';
    }
  }

  async #storeDeadLetter(message: JsMsg, error: unknown): Promise<void> {
    const projectId = projectOfSubject(message.subject);
    const headers = fromHeaders(message.headers);
    const ours = /^[0-9a-f-]{36}$/i.test(headers['ce-id'] ?? '') ? headers['ce-id']! : null;
    const eventId = this.#options.handler.deadLetterId?.(message) ?? ours;
    await this.#options.pg.withTenant(projectId, (tx) =>
      tx.execute(
        `INSERT INTO dead_letters (id, project_id, consumer, event_id, subject, headers, body, code, error, deliveries)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (consumer, event_id) DO UPDATE SET status = 'open', error = EXCLUDED.error, deliveries = EXCLUDED.deliveries`,
        [
          newId(),
          projectId,
          this.durable,
          eventId,
          message.subject,
          JSON.stringify(headers),
          message.string().replaceAll('\0', ''),
          error instanceof AppError ? error.code : 'runtime.event.failed',
          describeError(error),
          message.info.deliveryCount,
        ],
      ),
    );
  }
}
