import { z } from 'zod';
import { idParams, metadata, page, pageQuery, score, text, timestamp, uuid } from '../common.ts';
import { defineRoute } from '../route.ts';
import { FEEDBACK_KINDS, feedbackKind, preferenceRecorded, rewardRecorded } from './events.ts';

export const MAX_FEEDBACK_BATCH = 500;

const name = z.string().min(1).max(200);

/** What every feedback may say, whatever its kind. The answer is named by `response_id`, or by completion and choice. */
const common = {
  response_id: uuid.optional(),
  completion_id: name.optional(),
  /** Which choice of the completion. */
  choice: z.number().int().min(0).max(1_000).default(0),
  /** Who said it. A signed-in person speaks for themselves; a key may speak for its users. */
  user_id: name.optional(),
  brand: name.optional(),
  task: name.optional(),
  session_id: name.optional(),
  comment: text.optional(),
  /** True for anything no person said: scripted reviewers, simulations, tests. */
  synthetic: z.boolean().default(false),
  metadata: metadata.optional(),
  /** When it was said, if not now: for imports and feedback that was kept while offline. */
  created_at: timestamp.optional(),
};

const kinds = {
  thumbs: z.object({ ...common, kind: z.literal('thumbs'), value: z.enum(['up', 'down']) }),
  stars: z.object({ ...common, kind: z.literal('stars'), value: z.number().int().min(1).max(5) }),
  like: z.object({
    ...common,
    kind: z.literal('like'),
    value: z.enum(['like', 'dislike', 'neutral']),
    quality: z.number().int().min(1).max(5).optional(),
  }),
  ab: z.object({
    ...common,
    kind: z.literal('ab'),
    /** The other answer (B) to the same prompt; `response_id` names A. */
    other_response_id: uuid.optional(),
    other_completion_id: name.optional(),
    other_choice: z.number().int().min(0).max(1_000).default(0),
    value: z.enum(['a', 'b', 'tie', 'both_bad', 'cant_tell']),
  }),
  dimensions: z.object({
    ...common,
    kind: z.literal('dimensions'),
    /** Score of each dimension, -1 to 1. */
    dimensions: z
      .record(z.string().min(1).max(100), score)
      .refine((given) => Object.keys(given).length > 0, 'give at least one dimension'),
  }),
  comment: z.object({ ...common, kind: z.literal('comment'), comment: text.min(1), score: score.optional() }),
  correction: z.object({
    ...common,
    kind: z.literal('correction'),
    /** The answer as it should have been. */
    correction: text.min(1),
    score: score.optional(),
  }),
  report: z.object({
    ...common,
    kind: z.literal('report'),
    reason: z.string().min(1).max(200),
    score: score.optional(),
  }),
  score: z.object({ ...common, kind: z.literal('score'), value: score }),
};

/** One piece of feedback as it is sent. */
export const feedbackInput = z
  .discriminatedUnion(
    'kind',
    [
      kinds.thumbs,
      kinds.stars,
      kinds.like,
      kinds.ab,
      kinds.dimensions,
      kinds.comment,
      kinds.correction,
      kinds.report,
      kinds.score,
    ],
    {
      error: (issue) =>
        issue.code === 'invalid_union'
          ? `must be one of ${FEEDBACK_KINDS.map((kind) => `"${kind}"`).join(', ')}`
          : undefined,
    },
  )
  .superRefine((value, ctx) => {
    if ((value.response_id === undefined) === (value.completion_id === undefined)) {
      ctx.addIssue({ code: 'custom', path: ['response_id'], message: 'is required, or completion_id; not both' });
    }
    if (value.kind !== 'ab') return;
    if ((value.other_response_id === undefined) === (value.other_completion_id === undefined)) {
      const message = 'is required, or other_completion_id; not both';
      ctx.addIssue({ code: 'custom', path: ['other_response_id'], message });
    }
  });
export type FeedbackInput = z.output<typeof feedbackInput>;

export const FEEDBACK_STATUSES = ['active', 'superseded', 'deleted'] as const;

/** A piece of feedback as it is kept: raw, whatever became of it. */
export const feedback = z.object({
  id: uuid,
  kind: feedbackKind,
  response_id: uuid,
  other_response_id: uuid.nullable(),
  user_id: z.string(),
  brand: z.string().nullable(),
  task: z.string().nullable(),
  session_id: z.string().nullable(),
  synthetic: z.boolean(),
  /** What was said, in the scale of its kind. */
  value: z.json(),
  comment: z.string().nullable(),
  /** The score it stands for; null where its kind has none. */
  score: score.nullable(),
  status: z.enum(FEEDBACK_STATUSES),
  superseded_by: uuid.nullable(),
  metadata: metadata.nullable(),
  created_at: timestamp,
});

/** What became of one piece of feedback. */
export const feedbackOutcome = feedback.extend({
  /** Earlier feedback that this one takes the place of. */
  supersedes: uuid.nullable(),
  reward_id: uuid.nullable(),
  /** Preferences that this feedback states, or that it made possible together with earlier ratings. */
  preference_ids: z.array(uuid),
});

export const createFeedback = defineRoute({
  service: 'rewards',
  operationId: 'create_feedback',
  method: 'POST',
  path: '/api/v1/feedback',
  summary: 'Says what somebody thinks of an answer.',
  scope: 'feedback',
  tag: 'Feedback',
  body: feedbackInput,
  response: feedbackOutcome,
  status: 201,
});

export const itemError = z.object({
  status: z.number().int(),
  code: z.string(),
  message: z.string(),
  field: z.string().nullable(),
});

export const createFeedbackBatch = defineRoute({
  service: 'rewards',
  operationId: 'create_feedback_batch',
  method: 'POST',
  path: '/api/v1/feedback/batch',
  summary: 'Takes many pieces of feedback at once; each is taken or refused by itself.',
  scope: 'feedback',
  tag: 'Feedback',
  body: z.object({
    /** Each as `POST /api/v1/feedback` takes it. */
    items: z.array(z.record(z.string(), z.json())).min(1).max(MAX_FEEDBACK_BATCH),
  }),
  response: z.object({
    accepted: z.number().int(),
    rejected: z.number().int(),
    /** In the order of the items. */
    results: z.array(
      z.object({ index: z.number().int(), feedback: feedbackOutcome.nullable(), error: itemError.nullable() }),
    ),
  }),
});

export const listFeedback = defineRoute({
  service: 'rewards',
  operationId: 'list_feedback',
  method: 'GET',
  path: '/api/v1/feedback',
  summary: 'Feedback as it was given, newest first.',
  scope: 'read',
  tag: 'Feedback',
  query: pageQuery.extend({
    response_id: uuid.optional(),
    kind: feedbackKind.optional(),
    user_id: name.optional(),
    synthetic: z.boolean().optional(),
    status: z.enum([...FEEDBACK_STATUSES, 'all']).default('active'),
  }),
  response: page(feedback),
});

export const deleteFeedback = defineRoute({
  service: 'rewards',
  operationId: 'delete_feedback',
  method: 'DELETE',
  path: '/api/v1/feedback/{id}',
  summary:
    'Takes feedback back: what was made of it no longer counts; the history stays. Without the scope "write" only your own: what these credentials sent in, or what you said.',
  scope: 'feedback',
  tag: 'Feedback',
  params: idParams,
  response: feedback,
});

export const listRewards = defineRoute({
  service: 'rewards',
  operationId: 'list_rewards',
  method: 'GET',
  path: '/api/v1/rewards',
  summary: 'Rewards that count, newest first.',
  scope: 'read',
  tag: 'Feedback',
  query: pageQuery.extend({
    response_id: uuid.optional(),
    kind: feedbackKind.optional(),
    synthetic: z.boolean().optional(),
    min_score: score.optional(),
    max_score: score.optional(),
  }),
  response: page(rewardRecorded.schema),
});

export const listPreferences = defineRoute({
  service: 'rewards',
  operationId: 'list_preferences',
  method: 'GET',
  path: '/api/v1/preferences',
  summary: 'Preferences that count, newest first.',
  scope: 'read',
  tag: 'Feedback',
  query: pageQuery.extend({
    response_id: uuid.optional(),
    source: preferenceRecorded.schema.shape.source.optional(),
    synthetic: z.boolean().optional(),
  }),
  response: page(preferenceRecorded.schema),
});

export const distribution = z.object({
  positive: z.number().int(),
  negative: z.number().int(),
  neutral: z.number().int(),
});

const rewardStatistics = z.object({ total: z.number().int(), avg_score: z.number(), distribution });

export const getStatistics = defineRoute({
  service: 'rewards',
  operationId: 'get_statistics',
  method: 'GET',
  path: '/api/v1/statistics',
  summary: 'What there is, how it was rated, and whether it is enough to train on.',
  scope: 'read',
  tag: 'Feedback',
  query: z.object({
    /** Adds `groups`: rewards by this. */
    by: z.enum(['brand', 'task', 'kind', 'day']).optional(),
    brand: name.optional(),
    task: name.optional(),
    kind: feedbackKind.optional(),
    /** From this time on, and before that one; a day is a day in UTC. */
    from: timestamp.optional(),
    to: timestamp.optional(),
  }),
  response: z.object({
    responses: z.object({
      total: z.number().int(),
      by_model: z.record(z.string(), z.number().int()),
      recent_24h: z.number().int(),
    }),
    rewards: rewardStatistics,
    checkpoints: z.object({
      total: z.number().int(),
      active: z.number().int(),
      /** Highest reward of fresh samples that an evaluation has measured. */
      best_performance: z.number().nullable(),
    }),
    training_readiness: z.object({
      status: z.enum(['ready', 'partial', 'insufficient_data']),
      recommendations: z.array(z.string()),
    }),
    groups: z.array(rewardStatistics.extend({ key: z.string().nullable() })).optional(),
  }),
});

const PATH = '/functions/v1/rft-rewards';
const functionsScore = z.number().min(-1).max(1);
/** As clients of the edge functions write times: with an offset, or without one for UTC. */
const looseTime = z.iso.datetime({ offset: true, local: true });

const rftReward = z.object({
  id: uuid,
  response_id: uuid,
  score,
  detail: z.json().nullable(),
  created_at: timestamp,
});
const rftResponse = z.object({
  id: uuid,
  user_id: z.string(),
  prompt: z.string(),
  response_text: z.string(),
  model_id: z.string(),
  created_at: timestamp,
});
const success = z.literal(true);

export const rftCreateReward = defineRoute({
  service: 'rewards',
  operationId: 'rft_create_reward',
  method: 'POST',
  path: PATH,
  summary: 'Records a reward for a response; each post is a reward of its own.',
  scope: 'feedback',
  tag: 'Functions',
  body: z.object({
    response_id: uuid,
    score: functionsScore,
    detail: z.json().optional(),
    created_at: looseTime.optional(),
  }),
  response: z.object({ success, data: rftReward }),
});

export const rftListRewards = defineRoute({
  service: 'rewards',
  operationId: 'rft_list_rewards',
  method: 'GET',
  path: PATH,
  summary: 'Rewards with their responses, newest first, and statistics of all that match.',
  scope: 'read',
  tag: 'Functions',
  query: z.object({
    response_id: uuid.optional(),
    min_score: functionsScore.optional(),
    max_score: functionsScore.optional(),
    limit: z.number().int().min(1).max(1_000).default(100),
    offset: z.number().int().min(0).max(1_000_000_000).default(0),
  }),
  response: z.object({
    success,
    data: z.array(rftReward.extend({ responses: rftResponse.nullable() })),
    count: z.number().int(),
    stats: z.object({
      total_rewards: z.number().int(),
      avg_score: z.number(),
      max_score: z.number(),
      min_score: z.number(),
      score_distribution: distribution,
    }),
  }),
});

export const rftUpdateReward = defineRoute({
  service: 'rewards',
  operationId: 'rft_update_reward',
  method: 'PUT',
  path: PATH,
  summary: 'Changes the score or the detail of a reward.',
  scope: 'feedback',
  tag: 'Functions',
  query: z.object({ id: uuid }),
  body: z
    .object({ score: functionsScore.optional(), detail: z.json().optional() })
    .refine((body) => body.score !== undefined || body.detail !== undefined, {
      path: ['score'],
      message: 'is required, or detail: give what to change',
    }),
  response: z.object({ success, data: rftReward }),
});

export const rftDeleteReward = defineRoute({
  service: 'rewards',
  operationId: 'rft_delete_reward',
  method: 'DELETE',
  path: PATH,
  summary: 'Takes a reward back.',
  scope: 'feedback',
  tag: 'Functions',
  query: z.object({ id: uuid }),
  response: z.object({ success, message: z.string() }),
});
