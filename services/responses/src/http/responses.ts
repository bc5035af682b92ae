import { createResponse, deleteResponse, getResponse, listResponses } from '@tuneloop/contracts/responses/http';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { newId } from '@tuneloop/runtime/ids';
import { projectSettings } from '@tuneloop/runtime/projects';
import { promptGroup } from '../domain/hashes.ts';
import { checkRecordSize, recordResponses, tellDeleted, toRecord } from '../records.ts';
import type { ResponsesContext } from '../context.ts';
import * as store from '../store/responses.ts';
import { findTrace, type TraceRow } from '../store/traces.ts';
import { decodePosition, encodePosition } from './cursor.ts';
import { responseNotFound } from './rftResponses.ts';

export function mountResponses(app: HttpApp, ctx: ResponsesContext): void {
  mountRoute(app, ctx, createResponse, async ({ body, tx }) => {
    checkRecordSize(body);
    const userId = body.user_id ?? (await projectSettings(tx, ctx)).default_user_id;
    const [row] = await recordResponses(tx, [
      {
        ...body,
        id: newId(),
        user_id: userId,
        group_key: promptGroup(body.prompt),
        checkpoint_id: null,
        completion_id: null,
        choice: null,
        trace_id: null,
      },
    ]);
    return toRecord(row!);
  });

  mountRoute(app, ctx, listResponses, async ({ query, tx }) => {
    const { limit, cursor, ...filter } = query;
    const rows = await store.listResponses(tx, filter, decodePosition(cursor), limit);
    return { data: rows.map(toRecord), next_cursor: rows.length === limit ? encodePosition(rows.at(-1)!) : null };
  });

  mountRoute(app, ctx, getResponse, async ({ params, tx }) => {
    const row = await store.findResponseById(tx, params.id);
    if (!row) throw responseNotFound(params.id);
    const trace = row.trace_id === null ? undefined : await findTrace(tx, row.trace_id);
    return { ...toRecord(row), trace: trace ? toTrace(trace) : null };
  });

  mountRoute(app, ctx, deleteResponse, async ({ params, tx }) => {
    const deleted = await store.deleteResponse(tx, params.id);
    if (!deleted) throw responseNotFound(params.id);
    await tellDeleted(tx, [deleted], 'deleted');
    return { id: params.id, deleted: true };
  });
}

function toTrace(row: TraceRow) {
  const { project_id: _project, instance: _instance, user_id: _user, ...rest } = row;
  return rest;
}
