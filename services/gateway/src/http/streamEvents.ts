import { Readable } from 'node:stream';
import { streamEvents } from '@tuneloop/contracts/gateway/http';
import { EVENTS } from '@tuneloop/contracts/registry';
import { badRequest } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { z } from 'zod';
import type { GatewayContext } from '../config.ts';
import { ClientQueue, type LiveEvent, type LiveFeed } from '../events/liveFeed.ts';

/** A comment line this often keeps proxies from closing an idle stream. */
const KEEP_ALIVE_MS = 15_000;
const RECONNECT_MS = 2_000;
const KNOWN_TYPES: ReadonlySet<string> = new Set(EVENTS.map((event) => event.type));

/** `GET /api/v1/events`: server-sent events, resumed after `Last-Event-ID`. */
export function mountStreamEvents(app: HttpApp, ctx: GatewayContext, feed: LiveFeed): void {
  mountRoute(
    app,
    ctx,
    streamEvents,
    async ({ query, auth, raw, reply, signal }) => {
      const types = parseTypes(query.types);
      const lastId = parseLastId(raw.headers['last-event-id']);
      void reply.header('cache-control', 'no-store').header('x-accel-buffering', 'no');
      return Readable.from(events(feed, auth.projectId, types, lastId, signal));
    },
    { transaction: false },
  );
}

async function* events(
  feed: LiveFeed,
  projectId: string,
  types: ReadonlySet<string> | null,
  lastId: string | null,
  signal: AbortSignal,
): AsyncGenerator<string> {
  const queue = new ClientQueue();
  // Subscribed before the replay is read: what arrives in between waits in the queue, and what both have goes out once.
  const unsubscribe = feed.subscribe(projectId, queue);
  signal.addEventListener('abort', () => queue.close(), { once: true });
  try {
    yield `retry: ${RECONNECT_MS}\n\n`;
    const seen = new Set<string>();
    for (const event of lastId === null ? [] : await feed.since(projectId, lastId, types)) {
      seen.add(event.id);
      yield format(event);
    }
    for (;;) {
      const event = await queue.next(KEEP_ALIVE_MS);
      if (event === undefined) return;
      if (event === null) yield ': still here\n\n';
      else if (!seen.delete(event.id) && (types === null || types.has(event.type))) yield format(event);
    }
  } finally {
    unsubscribe();
  }
}

function format(event: LiveEvent): string {
  return `id: ${event.id}\nevent: ${event.type}\ndata: ${event.data}\n\n`;
}

function parseTypes(text: string | undefined): ReadonlySet<string> | null {
  if (text === undefined) return null;
  const types = text.split(',').map((type) => type.trim());
  const unknown = types.find((type) => !KNOWN_TYPES.has(type));
  if (unknown !== undefined) {
    throw badRequest(
      'gateway.events.unknown_type',
      `"${unknown}" is no event type; see the AsyncAPI document.`,
      'types',
    );
  }
  return new Set(types);
}

function parseLastId(header: string | string[] | undefined): string | null {
  if (header === undefined) return null;
  const id = z.uuid().safeParse(header);
  if (!id.success)
    throw badRequest('gateway.events.bad_last_id', 'Last-Event-ID must be an id of this feed.', 'Last-Event-ID');
  return id.data;
}
