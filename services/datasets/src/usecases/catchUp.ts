import { setTimeout as delay } from 'node:timers/promises';
import type { EventContract, EventData } from '@tuneloop/contracts/event';
import { dataSchema, eventSubject, streamName } from '@tuneloop/contracts/event';
import { operationsRoutes } from '@tuneloop/contracts/operations';
import {
  preferenceRecorded,
  preferenceRetracted,
  rewardRecorded,
  rewardRetracted,
} from '@tuneloop/contracts/rewards/events';
import { responseCreated, responseDeleted, responseUpdated } from '@tuneloop/contracts/responses/events';
import { AppError, describeError } from '@tuneloop/runtime/errors';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { DatasetsContext } from '../config.ts';
import { retractPreference, retractReward, upsertPreference, upsertReward } from '../store/feedback.ts';
import { deleteResponses } from '../store/responses.ts';
import { projectResponse } from './projectResponse.ts';

const POLL_MS = 50;
const OWNERS = ['responses', 'rewards'] as const;
const OWNER_TIMEOUT_MS = 5_000;
/** Pages of unpublished events that one freeze reads from one owner: 100,000 events. */
const MAX_PAGES = 1_000;

interface Projection {
  readonly contract: EventContract;
  /** Name of the consumer of these events. */
  readonly durable: string;
  apply(tx: Tx, ctx: DatasetsContext, data: unknown): Promise<void>;
}

function projection<E extends EventContract>(
  contract: E,
  handler: string,
  apply: (tx: Tx, data: EventData<E>, ctx: DatasetsContext) => Promise<void>,
): Projection {
  return {
    contract,
    durable: `datasets__${handler}`,
    apply: (tx, ctx, data) => apply(tx, contract.schema.parse(data) as EventData<E>, ctx),
  };
}

/** The events that the read model is made of. */
const PROJECTIONS: readonly Projection[] = [
  projection(responseCreated, 'on_response_created', (tx, data, ctx) => projectResponse(tx, ctx, data)),
  projection(responseUpdated, 'on_response_updated', (tx, data, ctx) => projectResponse(tx, ctx, data)),
  projection(responseDeleted, 'on_response_deleted', (tx, data) =>
    deleteResponses(tx, [data.response_id], data.version),
  ),
  projection(rewardRecorded, 'on_reward_recorded', upsertReward),
  projection(rewardRetracted, 'on_reward_retracted', retractReward),
  projection(preferenceRecorded, 'on_preference_recorded', upsertPreference),
  projection(preferenceRetracted, 'on_preference_retracted', retractPreference),
];

/**
 * Brings the read model up to now, whatever the relays and consumers are at: events that their owner has committed and
 * not published are asked for and applied here; those that are on the streams are waited for, until the deadline.
 * Applying an event here that is delivered later changes nothing: its version is known by then. Returns what may be
 * missing all the same, in sentences.
 */
export async function catchUp(ctx: DatasetsContext, projectId: string, signal: AbortSignal): Promise<string[]> {
  const deadline = Date.now() + ctx.config.CATCH_UP_MS;
  const missed: string[] = [];
  for (const owner of OWNERS) {
    const reason = await applyUnpublished(ctx, owner, projectId, deadline, signal);
    if (reason !== null) missed.push(reason);
  }
  // Asked after the owners: what they did not list was published before, so it lies at or below these positions.
  const ends = new Map<string, number>();
  for (const { contract } of PROJECTIONS) {
    const stream = streamName(contract.owner);
    if (!ends.has(stream)) ends.set(stream, (await ctx.bus.jsm.streams.info(stream)).state.last_seq);
  }
  for (const item of PROJECTIONS) {
    const end = ends.get(streamName(item.contract.owner)) ?? 0;
    if (await waitForConsumer(ctx, item, projectId, end, deadline, signal)) continue;
    missed.push(`Some ${item.contract.type} events were still on their way.`);
  }
  return missed;
}

/** Returns why the owner could not be asked, or null. */
async function applyUnpublished(
  ctx: DatasetsContext,
  owner: (typeof OWNERS)[number],
  projectId: string,
  deadline: number,
  signal: AbortSignal,
): Promise<string | null> {
  const route = operationsRoutes(owner).unpublished;
  let cursor: string | null = null;
  for (let pages = 0; pages < MAX_PAGES; ) {
    signal.throwIfAborted();
    try {
      const query: { cursor?: string } = cursor === null ? {} : { cursor };
      const answer: { data: UnpublishedEvent[]; next_cursor: string | null } = await ctx.callers.call(
        route,
        { query },
        { projectId, signal, timeoutMs: OWNER_TIMEOUT_MS },
      );
      await applyEvents(ctx, projectId, answer.data);
      if (answer.next_cursor === null) return null;
      cursor = answer.next_cursor;
      pages += 1;
    } catch (error) {
      signal.throwIfAborted();
      const final = error instanceof AppError && !error.retry;
      if (final || Date.now() >= deadline) {
        ctx.log.warn({ owner, reason: describeError(error) }, 'freezing without what the owner has not published');
        return `The ${owner} service could not be asked for its newest events.`;
      }
      await delay(POLL_MS, undefined, { signal });
    }
  }
  return `The ${owner} service has more unpublished events than one freeze reads.`;
}

interface UnpublishedEvent {
  readonly id: string;
  readonly dataschema: string;
  readonly data: unknown;
}

async function applyEvents(
  ctx: DatasetsContext,
  projectId: string,
  events: readonly UnpublishedEvent[],
): Promise<void> {
  const known = events.flatMap((event) => {
    const item = PROJECTIONS.find(({ contract }) => dataSchema(contract) === event.dataschema);
    return item ? [{ item, data: event.data }] : [];
  });
  if (known.length === 0) return;
  await ctx.pg.withTenant(projectId, async (tx) => {
    for (const { item, data } of known) await item.apply(tx, ctx, data);
  });
}

/** Whether the project's events of one type up to a position of the stream were handled before the deadline. */
async function waitForConsumer(
  ctx: DatasetsContext,
  item: Projection,
  projectId: string,
  end: number,
  deadline: number,
  signal: AbortSignal,
): Promise<boolean> {
  const stream = streamName(item.contract.owner);
  const subject = eventSubject(item.contract, projectId);
  let from = 1;
  for (;;) {
    signal.throwIfAborted();
    const info = await ctx.bus.jsm.consumers.info(stream, item.durable);
    from = Math.max(from, info.ack_floor.stream_seq + 1);
    // Other projects may hold the consumer's floor back: what counts is the next event of this one.
    for (;;) {
      if (from > end) return true;
      const next = await nextMessage(ctx, stream, subject, from);
      if (next === null || next.seq > end) return true;
      if (!(await isHandled(ctx, projectId, item.durable, next.eventId))) break;
      from = next.seq + 1;
    }
    if (Date.now() >= deadline) return false;
    await delay(POLL_MS, undefined, { signal });
  }
}

async function nextMessage(
  ctx: DatasetsContext,
  stream: string,
  subject: string,
  from: number,
): Promise<{ seq: number; eventId: string } | null> {
  // The server's word for "the first on this subject at or after"; the client's type of this call does not know it.
  const query = { seq: from, next_by_subj: subject };
  const message = await ctx.bus.jsm.streams.getMessage(stream, query);
  return message === null ? null : { seq: message.seq, eventId: message.header.get('ce-id') };
}

/** Applied, or given up: a dead letter is for people, not to be waited for. */
async function isHandled(ctx: DatasetsContext, projectId: string, durable: string, eventId: string): Promise<boolean> {
  return ctx.pg.withTenant(projectId, async (tx) => {
    const row = await tx.one(
      `SELECT 1 FROM inbox WHERE consumer = $1 AND event_id = $2
       UNION ALL SELECT 1 FROM dead_letters WHERE consumer = $1 AND event_id = $2`,
      [durable, eventId],
    );
    return row !== undefined;
  });
}
