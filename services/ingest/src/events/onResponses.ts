import { responseCreated, responseDeleted } from '@tuneloop/contracts/responses/events';
import { rewardRecorded, rewardRetracted } from '@tuneloop/contracts/rewards/events';
import { defineHandler, type MessageHandler } from '@tuneloop/runtime/inbox/handler';
import type { IngestContext } from '../config.ts';
import { upsertResponseReward, upsertSessionResponse } from '../store/responses.ts';

/** What has become of a session's pictures: its responses, and which of them somebody has rated. */
export function sessionHandlers(): MessageHandler<IngestContext>[] {
  return [
    defineHandler({
      name: 'on_response_created',
      event: responseCreated,
      handle: async (tx, { data }) => {
        if (data.session_id === null) return;
        await upsertSessionResponse(tx, {
          responseId: data.response_id,
          sessionId: data.session_id,
          version: data.version,
          deleted: false,
        });
      },
    }),
    defineHandler({
      name: 'on_response_deleted',
      event: responseDeleted,
      handle: async (tx, { data }) => {
        await upsertSessionResponse(tx, {
          responseId: data.response_id,
          sessionId: null,
          version: data.version,
          deleted: true,
        });
      },
    }),
    defineHandler({
      name: 'on_reward_recorded',
      event: rewardRecorded,
      handle: async (tx, { data }) => {
        const { reward_id: rewardId, response_id: responseId, version } = data;
        await upsertResponseReward(tx, { rewardId, responseId, version, retracted: false });
      },
    }),
    defineHandler({
      name: 'on_reward_retracted',
      event: rewardRetracted,
      handle: async (tx, { data }) => {
        const { reward_id: rewardId, response_id: responseId, version } = data;
        await upsertResponseReward(tx, { rewardId, responseId, version, retracted: true });
      },
    }),
  ];
}
