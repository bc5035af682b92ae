import { MAX_PAGE } from '@tuneloop/contracts/common';
import { operationsRoutes } from '@tuneloop/contracts/operations';
import type { ServiceName } from '@tuneloop/contracts/services';
import type { Bus } from './bus/bus.ts';
import { badRequest, notFound } from './errors.ts';
import type { HttpApp } from './http/app.ts';
import { mountRoute, type RouteContext } from './http/mountRoute.ts';
import type { Tx } from './pg/database.ts';

/** What these routes need of a service. */
interface OperationsContext extends RouteContext {
  readonly name: ServiceName;
  readonly bus: Bus;
}

interface OutboxLine {
  created_at: Date;
  headers: Record<string, string>;
  body: Record<string, never>;
}

interface UnpublishedRow {
  seq: number;
  id: string;
  headers: Record<string, string>;
  body: Record<string, never>;
}

interface DeadLetterRow {
  id: string;
  consumer: string;
  event_id: string | null;
  subject: string;
  headers: Record<string, string>;
  body: string;
  code: string;
  error: string;
  deliveries: number;
  status: 'open' | 'replayed' | 'dropped';
  created_at: Date;
}

/** Timeline and dead letters: the same in every service. */
export function mountOperations(app: HttpApp, ctx: OperationsContext): void {
  const routes = operationsRoutes(ctx.name);

  mountRoute(app, ctx, routes.timeline, async ({ query, tx }) => {
    const rows = await tx.query<OutboxLine>(
      `SELECT created_at, headers, body FROM outbox WHERE headers->>'ce-correlationid' = $1 ORDER BY seq LIMIT $2`,
      [query.correlation_id, MAX_PAGE],
    );
    return {
      entries: rows.map((row) => ({
        at: row.created_at.toISOString(),
        service: ctx.name,
        what: row.headers['ce-type']?.replace('tuneloop.', '') ?? 'unknown',
        detail: row.body,
      })),
    };
  });

  mountRoute(app, ctx, routes.unpublished, async ({ query, tx }) => {
    const rows = await listUnpublished(tx, query.limit, query.cursor);
    return {
      data: rows.map((row) => ({
        id: row.id,
        type: row.headers['ce-type'] ?? '',
        dataschema: row.headers['ce-dataschema'] ?? '',
        data: row.body,
      })),
      next_cursor: rows.length === query.limit ? String(rows.at(-1)!.seq) : null,
    };
  });

  mountRoute(app, ctx, routes.deadLetters, async ({ query, tx }) => {
    const rows = await listDeadLetters(tx, query.status, query.limit, query.cursor);
    return {
      data: rows.map((row) => ({ ...row, service: ctx.name, created_at: row.created_at.toISOString() })),
      next_cursor: rows.length === query.limit ? rows.at(-1)!.id : null,
    };
  });

  mountRoute(app, ctx, routes.settleDeadLetter, async ({ body, tx }) => {
    const row = await findDeadLetter(tx, body.id);
    if (!row || row.status !== 'open') {
      throw notFound('runtime.dead_letter.not_found', `There is no open dead letter ${body.id}.`);
    }
    if (body.action === 'replay') {
      // The inbox row was rolled back with the failed attempt, so the same message id is handled anew; the stream's
      // duplicate window must not drop it, hence a message id of its own.
      await ctx.bus.publish(row.subject, row.body, replayHeaders(row));
    }
    const status = body.action === 'replay' ? ('replayed' as const) : ('dropped' as const);
    await tx.execute('UPDATE dead_letters SET status = $2, settled_at = now() WHERE id = $1', [row.id, status]);
    return { id: row.id, status };
  });
}

async function listUnpublished(tx: Tx, limit: number, cursor: string | undefined): Promise<UnpublishedRow[]> {
  const after = cursor === undefined ? null : Number(cursor);
  if (after !== null && !Number.isSafeInteger(after)) {
    throw badRequest('request.cursor_invalid', 'cursor must be the next_cursor of an earlier page', 'cursor');
  }
  return tx.query<UnpublishedRow>(
    `SELECT seq, id, headers, body FROM outbox WHERE published_at IS NULL AND ($2::bigint IS NULL OR seq > $2)
     ORDER BY seq LIMIT $1`,
    [limit, after],
  );
}

async function listDeadLetters(
  tx: Tx,
  status: string,
  limit: number,
  cursor: string | undefined,
): Promise<DeadLetterRow[]> {
  return tx.query<DeadLetterRow>(
    `SELECT id, consumer, event_id, subject, headers, body, code, error, deliveries, status, created_at FROM dead_letters
     WHERE status = $1 AND ($3::uuid IS NULL OR id < $3::uuid) ORDER BY id DESC LIMIT $2`,
    [status, limit, cursor ?? null],
  );
}

async function findDeadLetter(tx: Tx, id: string): Promise<DeadLetterRow | undefined> {
  return tx.one<DeadLetterRow>(
    `SELECT id, consumer, event_id, subject, headers, body, code, error, deliveries, status, created_at
     FROM dead_letters WHERE id = $1 FOR UPDATE`,
    [id],
  );
}

function replayHeaders(row: DeadLetterRow): Record<string, string> {
  const { 'nats-msg-id': _original, ...headers } = row.headers;
  return { ...headers, 'Nats-Msg-Id': `${row.id}.${Date.now()}` };
}
