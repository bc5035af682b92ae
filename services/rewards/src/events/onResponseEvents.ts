import { responseCreated, responseDeleted, responseUpdated } from '@tuneloop/contracts/responses/events';
import { defineHandler } from '@tuneloop/runtime/inbox/handler';
import type { RewardsContext } from '../config.ts';
import { forgetResponse } from '../usecases/forgetResponse.ts';
import { projectResponses } from '../usecases/projectResponses.ts';

export const onResponseCreated = defineHandler<typeof responseCreated, RewardsContext>({
  name: 'on_response_created',
  event: responseCreated,
  handle: (tx, { data }, ctx) => projectResponses(tx, [data], ctx),
});

export const onResponseUpdated = defineHandler<typeof responseUpdated, RewardsContext>({
  name: 'on_response_updated',
  event: responseUpdated,
  handle: (tx, { data }, ctx) => projectResponses(tx, [data], ctx),
});

export const onResponseDeleted = defineHandler<typeof responseDeleted, RewardsContext>({
  name: 'on_response_deleted',
  event: responseDeleted,
  handle: (tx, { data }, ctx) =>
    forgetResponse(tx, { id: data.response_id, version: data.version, reason: data.reason }, ctx),
});
