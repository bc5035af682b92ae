import { z } from 'zod';
import { score, text, timestamp, uuid } from '../common.ts';
import { defineEvent } from '../event.ts';

export const FEEDBACK_KINDS = [
  'thumbs',
  'stars',
  'like',
  'ab',
  'dimensions',
  'comment',
  'correction',
  'report',
  'score',
] as const;
export const feedbackKind = z.enum(FEEDBACK_KINDS);
export type FeedbackKind = z.output<typeof feedbackKind>;

export const feedbackReceived = defineEvent({
  type: 'feedback.received',
  version: 1,
  owner: 'rewards',
  summary: 'Somebody said what they think of an answer. Kept raw.',
  schema: z.object({
    feedback_id: uuid,
    kind: feedbackKind,
    response_id: uuid,
    user_id: z.string(),
    synthetic: z.boolean(),
    supersedes: uuid.nullable(),
    created_at: timestamp,
  }),
});

export const rewardRecorded = defineEvent({
  type: 'reward.recorded',
  version: 1,
  owner: 'rewards',
  summary: 'A score in [-1, 1] for one response.',
  schema: z.object({
    reward_id: uuid,
    response_id: uuid,
    feedback_id: uuid.nullable(),
    kind: feedbackKind,
    score,
    /** Raw stars, when the kind is stars: preferences from ratings need it. */
    stars: z.number().nullable(),
    rater: z.string(),
    synthetic: z.boolean(),
    detail: z.json().nullable(),
    version: z.number().int().min(1),
    created_at: timestamp,
  }),
});

export const rewardRetracted = defineEvent({
  type: 'reward.retracted',
  version: 1,
  owner: 'rewards',
  summary: 'A reward no longer counts: superseded, deleted or erased.',
  schema: z.object({
    reward_id: uuid,
    response_id: uuid,
    version: z.number().int(),
    reason: z.enum(['superseded', 'deleted', 'erased', 'judge_muted']),
  }),
});

export const preferenceRecorded = defineEvent({
  type: 'preference.recorded',
  version: 1,
  owner: 'rewards',
  summary: 'One answer was preferred over another to the same prompt.',
  schema: z.object({
    preference_id: uuid,
    chosen_response_id: uuid,
    rejected_response_id: uuid.nullable(),
    /** The corrected answer, where the chosen side is a correction and not a response. */
    chosen_text: text.nullable(),
    source: z.enum(['ab', 'correction', 'ratings', 'import']),
    kind: feedbackKind,
    /** Difference of the two sides' scores, where the source has one. */
    margin: z.number().nullable(),
    feedback_ids: z.array(uuid),
    rater: z.string(),
    synthetic: z.boolean(),
    version: z.number().int().min(1),
    created_at: timestamp,
  }),
});

export const preferenceRetracted = defineEvent({
  type: 'preference.retracted',
  version: 1,
  owner: 'rewards',
  summary: 'A preference no longer counts.',
  schema: z.object({
    preference_id: uuid,
    version: z.number().int(),
    reason: z.enum(['superseded', 'deleted', 'erased', 'judge_muted']),
  }),
});
