import { readFileSync } from 'node:fs';
import {
  type JetStreamClient,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
  type PubAck,
} from '@nats-io/jetstream';
import { connect, credsAuthenticator, headers as makeHeaders, type MsgHdrs, type NatsConnection } from 'nats';
import type { Logger } from 'pino';
import { describeError } from '../errors.ts';

const RECONNECT_WAIT_MS = 250;
const CONNECT_TIMEOUT_MS = 5_000;
const PUBLISH_TIMEOUT_MS = 5_000;
const PING_INTERVAL_MS = 10_000;
/** A connection that misses this many pings is replaced. */
const MAX_MISSED_PINGS = 2;

export interface BusOptions {
  readonly url: string;
  /** Path of a credentials file; absent where the server asks for none. */
  readonly credsFile?: string | undefined;
  readonly creds?: string | undefined;
  readonly name: string;
  readonly log: Logger;
}

/**
 * The connection of one process to NATS. It reconnects for ever; `connected` says how things stand, and listeners of
 * `onReconnect` run after each return (the relay then looks for a lost tail).
 */
export class Bus {
  readonly nc: NatsConnection;
  readonly js: JetStreamClient;
  readonly jsm: JetStreamManager;
  readonly #log: Logger;
  readonly #reconnectListeners = new Set<() => void>();
  #connected = true;

  private constructor(nc: NatsConnection, jsm: JetStreamManager, log: Logger) {
    this.nc = nc;
    this.js = jetstream(nc, { timeout: PUBLISH_TIMEOUT_MS });
    this.jsm = jsm;
    this.#log = log;
    void this.#watch();
  }

  static async connect(options: BusOptions): Promise<Bus> {
    const creds =
      options.creds ?? (options.credsFile === undefined ? undefined : readFileSync(options.credsFile, 'utf8'));
    const nc = await connect({
      servers: options.url,
      name: options.name,
      timeout: CONNECT_TIMEOUT_MS,
      maxReconnectAttempts: -1,
      reconnectTimeWait: RECONNECT_WAIT_MS,
      pingInterval: PING_INTERVAL_MS,
      maxPingOut: MAX_MISSED_PINGS,
      ...(creds === undefined ? {} : { authenticator: credsAuthenticator(new TextEncoder().encode(creds)) }),
    });
    const jsm = await jetstreamManager(nc, { checkAPI: false, timeout: PUBLISH_TIMEOUT_MS });
    return new Bus(nc, jsm, options.log);
  }

  get connected(): boolean {
    return this.#connected;
  }

  onReconnect(listener: () => void): void {
    this.#reconnectListeners.add(listener);
  }

  /** Publishes to a stream and resolves with the server's acknowledgement. */
  async publish(subject: string, body: string, headers: Readonly<Record<string, string>>): Promise<PubAck> {
    return this.js.publish(subject, body, { headers: toHeaders(headers), timeout: PUBLISH_TIMEOUT_MS });
  }

  /** Fire and forget on core NATS: for answers that nobody may be waiting for. */
  publishCore(subject: string, body: string): void {
    this.nc.publish(subject, body);
  }

  async close(): Promise<void> {
    if (this.nc.isClosed()) return;
    await this.nc.drain().catch(async (error: unknown) => {
      this.#log.debug({ reason: describeError(error) }, 'NATS connection did not drain; closing');
      await this.nc.close();
    });
  }

  async #watch(): Promise<void> {
    for await (const status of this.nc.status()) {
      if (status.type === 'disconnect') {
        this.#connected = false;
        this.#log.warn('NATS connection lost');
      } else if (status.type === 'reconnect') {
        this.#connected = true;
        this.#log.info('NATS connection is back');
        for (const listener of this.#reconnectListeners) listener();
      }
    }
  }
}

export function toHeaders(fields: Readonly<Record<string, string>>): MsgHdrs {
  const result = makeHeaders();
  for (const [key, value] of Object.entries(fields)) result.set(key, value.replaceAll(/[\r\n]/g, ' '));
  return result;
}

export function fromHeaders(source: MsgHdrs | undefined): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const key of source?.keys() ?? []) fields[key.toLowerCase()] = source!.get(key);
  return fields;
}
