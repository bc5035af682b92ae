import {
  preferenceRecorded,
  preferenceRetracted,
  rewardRecorded,
  rewardRetracted,
} from '@tuneloop/contracts/rewards/events';
import { defineHandler } from '@tuneloop/runtime/inbox/handler';
import type { DatasetsContext } from '../config.ts';
import { retractPreference, retractReward, upsertPreference, upsertReward } from '../store/feedback.ts';

// Feedback may arrive before the answers that it is about: it is kept, and joined to them when a version is frozen.

export const onRewardRecorded = defineHandler({
  name: 'on_reward_recorded',
  event: rewardRecorded,
  handle: async (tx, event, _ctx: DatasetsContext) => upsertReward(tx, event.data),
});

export const onRewardRetracted = defineHandler({
  name: 'on_reward_retracted',
  event: rewardRetracted,
  handle: async (tx, event, _ctx: DatasetsContext) => retractReward(tx, event.data),
});

export const onPreferenceRecorded = defineHandler({
  name: 'on_preference_recorded',
  event: preferenceRecorded,
  handle: async (tx, event, _ctx: DatasetsContext) => upsertPreference(tx, event.data),
});

export const onPreferenceRetracted = defineHandler({
  name: 'on_preference_retracted',
  event: preferenceRetracted,
  handle: async (tx, event, _ctx: DatasetsContext) => retractPreference(tx, event.data),
});
