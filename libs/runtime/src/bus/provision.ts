import {
  AckPolicy,
  type ConsumerConfig,
  DeliverPolicy,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
} from '@nats-io/jetstream';
import { nanos } from 'nats';
import type { Logger } from 'pino';
import type { Bus } from './bus.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
/** Consumers that were away longer than this rebuild from snapshots. */
const STREAM_MAX_AGE_MS = 14 * DAY_MS;
const DUPLICATE_WINDOW_MS = 2 * 60 * 1000;
export const ACK_WAIT_MS = 30_000;
const MAX_ACK_PENDING = 256;

export interface StreamDeclaration {
  readonly name: string;
  readonly subjects: readonly string[];
  /** How long a repeated message id is dropped. */
  readonly duplicateWindowMs?: number;
}

export interface ConsumerDeclaration {
  readonly stream: string;
  readonly durable: string;
  readonly filter: string;
}

/** Configuration drift that cannot be applied to what runs; a person has to decide. */
export class DriftError extends Error {
  override readonly name = 'DriftError';
}

/** Creates or updates a stream. Throws `DriftError` where storage or retention differ: those cannot be changed. */
export async function provisionStream(bus: Bus, declared: StreamDeclaration, log: Logger): Promise<void> {
  const wanted = {
    name: declared.name,
    subjects: [...declared.subjects].toSorted(),
    retention: RetentionPolicy.Limits,
    storage: StorageType.File,
    max_age: nanos(STREAM_MAX_AGE_MS),
    duplicate_window: nanos(declared.duplicateWindowMs ?? DUPLICATE_WINDOW_MS),
  } satisfies Partial<StreamConfig>;
  const current = await bus.jsm.streams.info(declared.name).catch(nullWhenMissing);
  if (current === null) {
    await bus.jsm.streams.add(wanted);
    log.info({ stream: declared.name }, 'stream created');
    return;
  }
  for (const field of ['retention', 'storage'] as const) {
    if (current.config[field] !== wanted[field]) {
      throw new DriftError(
        `stream ${declared.name} has ${field} "${current.config[field]}", declared "${wanted[field]}": export and recreate it`,
      );
    }
  }
  const same =
    JSON.stringify([...current.config.subjects].toSorted()) === JSON.stringify(wanted.subjects) &&
    current.config.max_age === wanted.max_age &&
    current.config.duplicate_window === wanted.duplicate_window;
  if (same) return;
  await bus.jsm.streams.update(declared.name, { ...current.config, ...wanted });
  log.info({ stream: declared.name }, 'stream updated');
}

/** Creates or updates a durable pull consumer. Throws `DriftError` where filter or ack policy differ. */
export async function provisionConsumer(bus: Bus, declared: ConsumerDeclaration, log: Logger): Promise<void> {
  const wanted = {
    durable_name: declared.durable,
    filter_subject: declared.filter,
    ack_policy: AckPolicy.Explicit,
    deliver_policy: DeliverPolicy.All,
    ack_wait: nanos(ACK_WAIT_MS),
    max_ack_pending: MAX_ACK_PENDING,
    // Deliveries are counted by the consumer loop, which writes the dead letter; the server must not drop silently.
    max_deliver: -1,
  } satisfies Partial<ConsumerConfig>;
  const current = await bus.jsm.consumers.info(declared.stream, declared.durable).catch(nullWhenMissing);
  if (current === null) {
    await bus.jsm.consumers.add(declared.stream, wanted);
    log.info({ stream: declared.stream, consumer: declared.durable }, 'consumer created');
    return;
  }
  if (current.config.filter_subject !== wanted.filter_subject || current.config.ack_policy !== wanted.ack_policy) {
    throw new DriftError(
      `consumer ${declared.durable} filters "${current.config.filter_subject}", declared "${declared.filter}": name a new handler`,
    );
  }
  if (current.config.ack_wait !== wanted.ack_wait || current.config.max_ack_pending !== wanted.max_ack_pending) {
    await bus.jsm.consumers.update(declared.stream, declared.durable, {
      ack_wait: wanted.ack_wait,
      max_ack_pending: wanted.max_ack_pending,
    });
  }
}

function nullWhenMissing(error: unknown): null {
  const status = (error as { code?: unknown; status?: unknown }).status ?? (error as { code?: unknown }).code;
  const name = error instanceof Error ? error.name : '';
  if (status === 404 || /NotFound/.test(name)) return null;
  throw error;
}
