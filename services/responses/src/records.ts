import { MAX_TEXT_CHARS } from '@tuneloop/contracts/common';
import {
  chatMessage,
  responseCreated,
  responseDeleted,
  type ResponseRecord,
  responseUpdated,
} from '@tuneloop/contracts/responses/events';
import { badRequest } from '@tuneloop/runtime/errors';
import { emit, emitMany, MAX_EVENT_BYTES } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import {
  type DeletedResponse,
  insertResponses,
  insertTombstones,
  type NewResponse,
  type ResponseRow,
} from './store/responses.ts';

/** What an event's other fields may take beside the texts. */
const EVENT_OVERHEAD_BYTES = 8 * 1024;
const MAX_RECORD_BYTES = MAX_EVENT_BYTES - EVENT_OVERHEAD_BYTES;
/** Longest prompt kept in an event that would otherwise be too large. */
const CLIPPED_PROMPT_CHARS = 20_000;

/** A response as its event tells it. */
export function toRecord(row: ResponseRow): ResponseRecord {
  return {
    response_id: row.id,
    version: row.version,
    user_id: row.user_id,
    prompt_id: row.prompt_id,
    prompt: row.prompt,
    messages: row.messages?.map((message) => chatMessage.parse(message)) ?? null,
    response_text: row.response_text,
    model_id: row.model_id,
    checkpoint_id: row.checkpoint_id,
    slot: row.slot,
    completion_id: row.completion_id,
    choice: row.choice,
    image_id: row.image_id,
    facts: row.facts,
    group_key: row.group_key,
    category: row.category,
    brand: row.brand,
    task: row.task,
    session_id: row.session_id,
    purpose: row.purpose,
    metadata: row.metadata,
    created_at: row.created_at.toISOString(),
  };
}

function recordBytes(record: ResponseRecord): number {
  return Buffer.byteLength(JSON.stringify(record));
}

/**
 * A record that fits into an event. A conversation that does not is clipped and says so (`metadata.clipped`): feedback
 * and statistics still find it; the whole stays in the table.
 */
export function eventRecord(record: ResponseRecord): ResponseRecord {
  if (recordBytes(record) <= MAX_RECORD_BYTES) return record;
  return {
    ...record,
    messages: null,
    prompt: record.prompt.slice(0, CLIPPED_PROMPT_CHARS),
    response_text: record.response_text.slice(0, CLIPPED_PROMPT_CHARS),
    metadata: { clipped: true },
  };
}

/** @throws AppError 400 when a record that a caller hands in is too large to be told of in one event */
export function checkRecordSize(fields: {
  prompt?: string | undefined;
  response_text?: string | undefined;
  messages?: unknown;
  metadata?: unknown;
}): void {
  if (Buffer.byteLength(JSON.stringify(fields)) <= MAX_RECORD_BYTES) return;
  throw badRequest(
    'responses.response.too_large',
    `prompt, response_text, messages and metadata together must stay under ${MAX_RECORD_BYTES} bytes`,
    'response_text',
  );
}

export interface Cause {
  readonly correlationId?: string | null | undefined;
  readonly causationId?: string | null | undefined;
}

/** Stores answers and their events in the caller's transaction; what is stored already is neither stored nor told again. */
export async function recordResponses(tx: Tx, rows: readonly NewResponse[], cause: Cause = {}): Promise<ResponseRow[]> {
  const clipped = rows.map((row) => ({ ...row, response_text: row.response_text.slice(0, MAX_TEXT_CHARS) }));
  const stored = await insertResponses(tx, clipped);
  await emitMany(
    tx,
    responseCreated,
    stored.map((row) => ({
      subject: row.id,
      data: eventRecord(toRecord(row)),
      aggregateVersion: row.version,
      ...cause,
    })),
  );
  return stored;
}

export async function emitUpdated(tx: Tx, row: ResponseRow, cause: Cause = {}): Promise<void> {
  await emit(tx, responseUpdated, {
    subject: row.id,
    data: eventRecord(toRecord(row)),
    aggregateVersion: row.version,
    ...cause,
  });
}

/** Tombstones and tells of answers whose rows were just deleted. */
export async function tellDeleted(
  tx: Tx,
  deleted: readonly DeletedResponse[],
  reason: 'deleted' | 'erased',
  cause: Cause = {},
): Promise<void> {
  await insertTombstones(
    tx,
    'response',
    deleted.map((row) => row.id),
  );
  await emitMany(
    tx,
    responseDeleted,
    deleted.map((row) => ({
      subject: row.id,
      data: { response_id: row.id, version: row.version + 1, reason },
      aggregateVersion: row.version + 1,
      ...cause,
    })),
  );
}
