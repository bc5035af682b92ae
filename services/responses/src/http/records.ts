import { findResponseByCompletion, getResponseRecord, snapshotResponses } from '@tuneloop/contracts/responses/internal';
import { notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { toRecord } from '../records.ts';
import type { ResponsesContext } from '../context.ts';
import * as store from '../store/responses.ts';
import { idCursor } from './cursor.ts';
import { responseNotFound } from './rftResponses.ts';

/** What other services read: one response, the response behind a completion, all of them. */
export function mountRecords(app: HttpApp, ctx: ResponsesContext): void {
  mountRoute(app, ctx, getResponseRecord, async ({ params, tx }) => {
    const row = await store.findResponseById(tx, params.id);
    if (!row) throw responseNotFound(params.id);
    return toRecord(row);
  });

  mountRoute(app, ctx, findResponseByCompletion, async ({ query, tx }) => {
    const row = await store.findResponseByCompletion(tx, query.completion_id, query.choice);
    if (row) return toRecord(row);
    throw notFound(
      'responses.completion.not_found',
      `There is no recorded answer ${query.choice} of completion ${query.completion_id}`,
    );
  });

  mountRoute(app, ctx, snapshotResponses, async ({ query, tx }) => {
    const rows = await store.listResponsesById(tx, idCursor(query.cursor), query.limit);
    return { data: rows.map(toRecord), next_cursor: rows.length === query.limit ? rows.at(-1)!.id : null };
  });
}
