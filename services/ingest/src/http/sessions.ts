import { createSession, getSession, listSessions, type Session } from '@tuneloop/contracts/ingest/http';
import { notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { newId } from '@tuneloop/runtime/ids';
import type { IngestParts } from '../parts.ts';
import { listRejections } from '../store/rejections.ts';
import { insertFetches, type NewFetch } from '../store/fetches.ts';
import * as store from '../store/sessions.ts';
import { idCursor, nextCursor } from './cursor.ts';

/** Latest failures that a session shows. */
const MAX_FAILURES = 50;

export function mountSessions(app: HttpApp, parts: IngestParts): void {
  const { ctx, fetcher } = parts;

  mountRoute(app, ctx, createSession, async ({ body, auth, tx }) => {
    const row = await store.insertSession(tx, {
      id: newId(),
      name: body.name ?? null,
      url: body.url ?? null,
      category: body.category ?? null,
      user_id: body.user_id ?? null,
      licence: body.licence ?? null,
      consent: body.consent ?? null,
      generate: body.generate ?? null,
      metadata: body.metadata,
    });
    await insertFetches(
      tx,
      body.image_urls.map((url) => fetchOf(row, url, auth.actor)),
    );
    tx.afterCommit(() => fetcher.wake());
    return toSession(row, { ...NOTHING, session_id: row.id, pending: body.image_urls.length });
  });

  mountRoute(app, ctx, listSessions, async ({ query, tx }) => {
    const rows = await store.listSessions(tx, idCursor(query.cursor), query.limit);
    const counts = await store.countSessions(
      tx,
      rows.map((row) => row.id),
    );
    return {
      data: rows.map((row) => toSession(row, counts.get(row.id))),
      next_cursor: nextCursor(rows, query.limit),
    };
  });

  mountRoute(app, ctx, getSession, async ({ params, tx }) => {
    const row = await store.findSessionById(tx, params.id);
    if (!row) throw notFound('ingest.session.not_found', `There is no session ${params.id}`);
    const counts = await store.countSessions(tx, [row.id]);
    const failures = await listRejections(tx, row.id, MAX_FAILURES);
    return {
      ...toSession(row, counts.get(row.id)),
      failures: failures.map(({ session_id: _session, created_at, ...rest }) => ({
        ...rest,
        created_at: created_at.toISOString(),
      })),
    };
  });
}

/** A picture that a session names by URL goes the way of one that was submitted by event. */
function fetchOf(session: store.SessionRow, url: string, actor: string): NewFetch {
  const id = newId();
  return {
    id,
    kind: 'image',
    origin: 'session',
    session_id: session.id,
    actor,
    item: { id, source: `session ${session.id}`, url, session_id: session.id },
  };
}

const NOTHING = { processed: 0, failed: 0, pending: 0, duplicates: 0, responses_created: 0, ready_for_training: 0 };

function toSession(row: store.SessionRow, counted: store.SessionCounts | undefined): Session {
  const { session_id: _session, ...counts } = counted ?? { session_id: row.id, ...NOTHING };
  return {
    id: row.id,
    name: row.name,
    url: row.url,
    category: row.category,
    user_id: row.user_id,
    generate: row.generate,
    metadata: row.metadata as Session['metadata'],
    created_at: row.created_at.toISOString(),
    counts,
  };
}
