import type { EventContract, EventData } from '@tuneloop/contracts/event';
import { dataSchema, eventFilter, streamName } from '@tuneloop/contracts/event';
import type { JsMsg } from '@nats-io/jetstream';
import { z } from 'zod';
import { fromHeaders } from '../bus/bus.ts';
import { AppError } from '../errors.ts';
import type { Tx } from '../pg/database.ts';

/** A received event, parsed and checked. */
export interface ReceivedEvent<T> {
  readonly id: string;
  readonly type: string;
  readonly projectId: string;
  readonly subject: string;
  readonly time: string;
  readonly actor: string | null;
  readonly aggregateVersion: number | null;
  readonly correlationId: string | null;
  readonly traceparent: string | undefined;
  readonly data: T;
}

/**
 * What a consumer loop runs. `parse` throws an AppError with `retry: false` for what can never be handled;
 * `handle` runs inside the tenant's transaction, after the inbox row, and must not publish by itself.
 */
export interface MessageHandler<Ctx, T = unknown> {
  readonly name: string;
  readonly stream: string;
  readonly filter: string;
  parse(message: JsMsg): ReceivedEvent<T>;
  // A method, so that handlers of different events fit one list: the loop hands each only what its own `parse` returned.
  handle(tx: Tx, event: ReceivedEvent<T>, ctx: Ctx): Promise<void>;
  /** Identity of a dead letter where `ce-id` is a sender's own word: equal for copies, never equal across projects. */
  readonly deadLetterId?: (message: JsMsg) => string;
  /** Runs after the dead letter is stored: to answer a sender outside. */
  onRejected?(message: JsMsg, error: AppError, ctx: Ctx): Promise<void> | void;
  /** Messages of this handler that one process works on at a time. */
  readonly concurrency?: number;
}

const envelopeSchema = z.object({
  'ce-id': z.uuid(),
  'ce-type': z.string(),
  'ce-time': z.string(),
  'ce-subject': z.string(),
  'ce-dataschema': z.string(),
  'ce-projectid': z.uuid(),
  'ce-actor': z.string().optional(),
  'ce-aggregateversion': z.coerce.number().int().optional(),
  'ce-correlationid': z.uuid().optional(),
  'ce-traceparent': z.string().optional(),
});

/** Declares the handler of one of our own events. The durable consumer is `<service>__<name>`. */
export function defineHandler<E extends EventContract, Ctx>(options: {
  name: string;
  event: E;
  handle: (tx: Tx, event: ReceivedEvent<EventData<E>>, ctx: Ctx) => Promise<void>;
  concurrency?: number;
}): MessageHandler<Ctx, EventData<E>> {
  return {
    name: options.name,
    stream: streamName(options.event.owner),
    filter: eventFilter(options.event),
    parse: (message) => parseEvent(options.event, message),
    handle: options.handle,
    ...(options.concurrency === undefined ? {} : { concurrency: options.concurrency }),
  };
}

/** Project named by a subject `tl.<project>.…` or `ext.<project>.…`; the nil uuid when it is not one. */
export function projectOfSubject(subject: string): string {
  const token = z.uuid().safeParse(subject.split('.')[1]);
  return token.success ? token.data : '00000000-0000-0000-0000-000000000000';
}

function parseEvent<E extends EventContract>(contract: E, message: JsMsg): ReceivedEvent<EventData<E>> {
  const envelope = envelopeSchema.safeParse(fromHeaders(message.headers));
  if (!envelope.success) throw malformed(`event headers: ${z.prettifyError(envelope.error)}`);
  const fields = envelope.data;
  if (fields['ce-projectid'] !== projectOfSubject(message.subject)) {
    throw malformed('ce-projectid differs from the project in the subject');
  }
  if (fields['ce-dataschema'] !== dataSchema(contract)) {
    throw malformed(`dataschema "${fields['ce-dataschema']}" is not "${dataSchema(contract)}"`);
  }
  const body = contract.schema.safeParse(parseJson(message));
  if (!body.success) throw malformed(`event body: ${z.prettifyError(body.error)}`);
  return {
    id: fields['ce-id'],
    type: contract.type,
    projectId: fields['ce-projectid'],
    subject: fields['ce-subject'],
    time: fields['ce-time'],
    actor: fields['ce-actor'] ?? null,
    aggregateVersion: fields['ce-aggregateversion'] ?? null,
    correlationId: fields['ce-correlationid'] ?? null,
    traceparent: fields['ce-traceparent'],
    data: body.data as EventData<E>,
  };
}

/** The body as JSON; a final error when it is not. */
export function parseJson(message: JsMsg): unknown {
  try {
    return JSON.parse(message.string());
  } catch (error) {
    throw malformed('the body is not JSON', error);
  }
}

function malformed(message: string, cause?: unknown): AppError {
  return new AppError({ code: 'runtime.event.malformed', status: 400, retry: false, message, cause });
}
