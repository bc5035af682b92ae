import { responseCreated, responseDeleted, responseUpdated } from '@tuneloop/contracts/responses/events';
import { defineHandler } from '@tuneloop/runtime/inbox/handler';
import type { DatasetsContext } from '../config.ts';
import { deleteResponses } from '../store/responses.ts';
import { projectResponse } from '../usecases/projectResponse.ts';

export const onResponseCreated = defineHandler({
  name: 'on_response_created',
  event: responseCreated,
  handle: async (tx, event, ctx: DatasetsContext) => projectResponse(tx, ctx, event.data),
});

export const onResponseUpdated = defineHandler({
  name: 'on_response_updated',
  event: responseUpdated,
  handle: async (tx, event, ctx: DatasetsContext) => projectResponse(tx, ctx, event.data),
});

export const onResponseDeleted = defineHandler({
  name: 'on_response_deleted',
  event: responseDeleted,
  handle: async (tx, event, _ctx: DatasetsContext) => deleteResponses(tx, [event.data.response_id], event.data.version),
});
