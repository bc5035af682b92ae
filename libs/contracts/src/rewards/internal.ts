import { z } from 'zod';
import { page, pageQuery, text } from '../common.ts';
import { defineRoute } from '../route.ts';
import { preferenceRecorded, rewardRecorded } from './events.ts';

export const MAX_JUDGE_ITEMS = 1_000;

/** Asks the project's configured judge about answers that are nobody's feedback: fresh samples of an evaluation. */
export const judge = defineRoute({
  service: 'rewards',
  operationId: 'internal_judge',
  method: 'POST',
  path: '/internal/rewards/judge',
  summary: 'Scores answers, or compares two of them blind, by the judge of the project.',
  scope: 'service',
  body: z.object({
    items: z
      .array(
        z.object({
          key: z.string(),
          prompt: text,
          facts: z.record(z.string(), z.string()).nullable(),
          /** One answer: scored. Two: scored and compared, in this order. */
          answers: z.array(text).min(1).max(2),
        }),
      )
      .min(1)
      .max(MAX_JUDGE_ITEMS),
    seed: z.number().int().default(0),
  }),
  response: z.object({
    judge: z.object({ kind: z.string(), name: z.string(), synthetic: z.literal(true) }),
    items: z.array(
      z.object({
        key: z.string(),
        scores: z.array(z.number().min(-1).max(1)),
        /** 1: the first answer won, 0: the second, 0.5: tie. Null with one answer. */
        outcome: z.number().min(0).max(1).nullable(),
        /** Per answer, what the judge can count: wrong attributes, words. */
        details: z.array(z.record(z.string(), z.number())),
      }),
    ),
  }),
});

export const snapshotRewards = defineRoute({
  service: 'rewards',
  operationId: 'internal_snapshot_rewards',
  method: 'GET',
  path: '/internal/rewards/snapshot/rewards',
  summary: 'All rewards that count, in id order.',
  scope: 'service',
  query: pageQuery,
  response: page(rewardRecorded.schema),
});

export const snapshotPreferences = defineRoute({
  service: 'rewards',
  operationId: 'internal_snapshot_preferences',
  method: 'GET',
  path: '/internal/rewards/snapshot/preferences',
  summary: 'All preferences that count, in id order.',
  scope: 'service',
  query: pageQuery,
  response: page(preferenceRecorded.schema),
});
