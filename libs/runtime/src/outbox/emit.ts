import { dataSchema, type EventContract, eventSubject, streamName } from '@tuneloop/contracts/event';
import type { z } from 'zod';
import { newId } from '../ids.ts';
import type { Tx } from '../pg/database.ts';
import { currentTrace, formatTraceparent } from '../trace.ts';

/** Bodies over this go by blob reference (SPEC 2). */
export const MAX_EVENT_BYTES = 256 * 1024;

export interface EmitInput<S extends z.ZodType> {
  /** Id of the aggregate that the event tells of. */
  readonly subject: string;
  readonly data: z.input<S>;
  /** Grows by one with each change of the aggregate; readers keep the highest. */
  readonly aggregateVersion?: number;
  /** One turn of the loop. */
  readonly correlationId?: string | null | undefined;
  /** The event or request that led to this one. */
  readonly causationId?: string | null | undefined;
}

/** An event ready for the wire. */
export interface OutboxRow {
  id: string;
  project_id: string;
  stream: string;
  subject: string;
  headers: Record<string, string>;
  body: unknown;
}

/** Adds one event to the transaction's outbox; it is published after the commit. Returns the event id. */
export async function emit<S extends z.ZodType>(
  tx: Tx,
  contract: EventContract<S>,
  input: EmitInput<S>,
): Promise<string> {
  const [id] = await emitMany(tx, contract, [input]);
  return id!;
}

/** As `emit`, for many events of one type with one statement. */
export async function emitMany<S extends z.ZodType>(
  tx: Tx,
  contract: EventContract<S>,
  inputs: readonly EmitInput<S>[],
): Promise<string[]> {
  const projectId = tx.projectId;
  if (projectId === null) throw new Error(`${contract.type} can only be emitted inside a tenant transaction`);
  if (inputs.length === 0) return [];
  const rows = inputs.map((input) => buildEvent(contract, projectId, tx.actor, input));
  await insertOutbox(tx, rows);
  return rows.map((row) => row.id);
}

/** An event of any type, waiting for its transaction. */
export type PendingEvent = (projectId: string, actor: string | null) => OutboxRow;

/** An event for `emitAll`; its body is checked there. */
export function pendingEvent<S extends z.ZodType>(contract: EventContract<S>, input: EmitInput<S>): PendingEvent {
  return (projectId, actor) => buildEvent(contract, projectId, actor, input);
}

/** Adds events of several types, in this order, with one statement. */
export async function emitAll(tx: Tx, events: readonly PendingEvent[]): Promise<void> {
  const { projectId, actor } = tx;
  if (projectId === null) throw new Error('events can only be emitted inside a tenant transaction');
  if (events.length === 0) return;
  await insertOutbox(
    tx,
    events.map((event) => event(projectId, actor)),
  );
}

/**
 * The relay of this process is woken once the rows are durable. Not by NOTIFY inside the transaction: a commit that
 * notifies holds a lock of the whole cluster while it is written to disk, so that commits would wait for one another.
 */
async function insertOutbox(tx: Tx, rows: readonly OutboxRow[]): Promise<void> {
  await tx.execute(
    `INSERT INTO outbox (id, project_id, stream, subject, headers, body)
     SELECT id, project_id, stream, subject, headers, body FROM jsonb_to_recordset($1::jsonb)
       AS r(id uuid, project_id uuid, stream text, subject text, headers jsonb, body jsonb)`,
    [JSON.stringify(rows)],
  );
  tx.outboxWritten();
}

/** Subject, CloudEvents headers and checked body of one event. Throws when the body breaks the contract or the size limit. */
export function buildEvent<S extends z.ZodType>(
  contract: EventContract<S>,
  projectId: string,
  actor: string | null,
  input: EmitInput<S>,
): OutboxRow {
  const body: unknown = contract.schema.parse(input.data);
  const bytes = Buffer.byteLength(JSON.stringify(body));
  if (bytes > MAX_EVENT_BYTES) {
    throw new Error(`${contract.type} is ${bytes} bytes, over ${MAX_EVENT_BYTES}: send a blob reference`);
  }
  const id = newId();
  const headers: Record<string, string> = {
    'Nats-Msg-Id': id,
    'ce-specversion': '1.0',
    'ce-id': id,
    'ce-source': `/tuneloop/${contract.owner}`,
    'ce-type': `tuneloop.${contract.type}`,
    'ce-time': new Date().toISOString(),
    'ce-subject': input.subject,
    'ce-dataschema': dataSchema(contract),
    'ce-datacontenttype': 'application/json',
    'ce-projectid': projectId,
  };
  if (actor) headers['ce-actor'] = actor;
  if (input.aggregateVersion !== undefined) headers['ce-aggregateversion'] = String(input.aggregateVersion);
  if (input.correlationId) headers['ce-correlationid'] = input.correlationId;
  if (input.causationId) headers['ce-causationid'] = input.causationId;
  const trace = currentTrace();
  if (trace) headers['ce-traceparent'] = formatTraceparent(trace);
  return {
    id,
    project_id: projectId,
    stream: streamName(contract.owner),
    subject: eventSubject(contract, projectId),
    headers,
    body,
  };
}
