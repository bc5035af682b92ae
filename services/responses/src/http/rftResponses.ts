import {
  createRftResponse,
  deleteRftResponse,
  listRftResponses,
  updateRftResponse,
} from '@tuneloop/contracts/responses/http';
import { notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { newId } from '@tuneloop/runtime/ids';
import { promptGroup } from '../domain/hashes.ts';
import { checkRecordSize, emitUpdated, recordResponses, tellDeleted } from '../records.ts';
import type { ResponsesContext } from '../context.ts';
import {
  countResponses,
  deleteResponse,
  listResponsesByOffset,
  type ResponseRow,
  updateResponse,
} from '../store/responses.ts';

function toRft(row: ResponseRow) {
  const { id, user_id, prompt, response_text, model_id, metadata, created_at, updated_at } = row;
  return { id, user_id, prompt, response_text, model_id, metadata, created_at, updated_at };
}

/** The scraper's edge function: four methods of one address, so one file. */
export function mountRftResponses(app: HttpApp, ctx: ResponsesContext): void {
  mountRoute(app, ctx, createRftResponse, async ({ body, tx }) => {
    checkRecordSize(body);
    const [row] = await recordResponses(tx, [
      {
        id: newId(),
        ...body,
        prompt_id: null,
        messages: null,
        checkpoint_id: null,
        slot: 'default',
        completion_id: null,
        choice: null,
        image_id: null,
        facts: null,
        group_key: promptGroup(body.prompt),
        category: null,
        brand: null,
        task: null,
        session_id: null,
        purpose: 'imported',
        trace_id: null,
      },
    ]);
    return { success: true, data: toRft(row!) };
  });

  mountRoute(app, ctx, listRftResponses, async ({ query, tx }) => {
    const filter = { userId: query.user_id, modelId: query.model_id };
    const rows = await listResponsesByOffset(tx, filter, query.limit, query.offset);
    return { success: true, data: rows.map(toRft), count: await countResponses(tx, filter) };
  });

  mountRoute(app, ctx, updateRftResponse, async ({ query, body, tx }) => {
    checkRecordSize(body);
    const row = await updateResponse(tx, query.id, {
      ...body,
      group_key: body.prompt === undefined ? undefined : promptGroup(body.prompt),
    });
    if (!row) throw responseNotFound(query.id);
    await emitUpdated(tx, row);
    return { success: true, data: toRft(row) };
  });

  mountRoute(app, ctx, deleteRftResponse, async ({ query, tx }) => {
    const deleted = await deleteResponse(tx, query.id);
    if (!deleted) throw responseNotFound(query.id);
    await tellDeleted(tx, [deleted], 'deleted');
    return { success: true, message: `Response ${query.id} deleted` };
  });
}

export function responseNotFound(id: string) {
  return notFound('responses.response.not_found', `There is no response ${id}`);
}
