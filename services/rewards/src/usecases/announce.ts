import {
  feedbackReceived,
  preferenceRecorded,
  preferenceRetracted,
  rewardRecorded,
  rewardRetracted,
} from '@tuneloop/contracts/rewards/events';
import { type PendingEvent, pendingEvent } from '@tuneloop/runtime/outbox/emit';
import type { z } from 'zod';
import type { FeedbackRow } from '../store/feedback.ts';
import type { PreferenceRow, RetractedPreference } from '../store/preferences.ts';
import type { RetractedReward, RetractionReason, RewardRow } from '../store/rewards.ts';

export function announceFeedback(row: FeedbackRow, supersedes: string | null): PendingEvent {
  return pendingEvent(feedbackReceived, {
    subject: row.id,
    data: {
      feedback_id: row.id,
      kind: row.kind,
      response_id: row.response_id,
      user_id: row.user_id,
      synthetic: row.synthetic,
      supersedes,
      created_at: row.created_at.toISOString(),
    },
  });
}

/** A reward as its event and the lists tell it. */
export function rewardOnWire(row: RewardRow): z.output<typeof rewardRecorded.schema> {
  return {
    reward_id: row.id,
    response_id: row.response_id,
    feedback_id: row.feedback_id,
    kind: row.kind,
    score: row.score,
    stars: row.stars,
    rater: row.rater,
    synthetic: row.synthetic,
    detail: row.detail,
    version: row.version,
    created_at: row.created_at.toISOString(),
  };
}

export function announceReward(row: RewardRow): PendingEvent {
  return pendingEvent(rewardRecorded, { subject: row.id, aggregateVersion: row.version, data: rewardOnWire(row) });
}

export function announceRewardRetracted(row: RetractedReward, reason: RetractionReason): PendingEvent {
  return pendingEvent(rewardRetracted, {
    subject: row.id,
    aggregateVersion: row.version,
    data: { reward_id: row.id, response_id: row.response_id, version: row.version, reason },
  });
}

/** A preference as its event and the lists tell it. */
export function preferenceOnWire(row: PreferenceRow): z.output<typeof preferenceRecorded.schema> {
  return {
    preference_id: row.id,
    chosen_response_id: row.chosen_response_id,
    rejected_response_id: row.rejected_response_id,
    chosen_text: row.chosen_text,
    source: row.source,
    kind: row.kind,
    margin: row.margin,
    feedback_ids: [...row.feedback_ids],
    rater: row.rater,
    synthetic: row.synthetic,
    version: row.version,
    created_at: row.created_at.toISOString(),
  };
}

export function announcePreference(row: PreferenceRow): PendingEvent {
  return pendingEvent(preferenceRecorded, {
    subject: row.id,
    aggregateVersion: row.version,
    data: preferenceOnWire(row),
  });
}

export function announcePreferenceRetracted(row: RetractedPreference, reason: RetractionReason): PendingEvent {
  return pendingEvent(preferenceRetracted, {
    subject: row.id,
    aggregateVersion: row.version,
    data: { preference_id: row.id, version: row.version, reason },
  });
}
