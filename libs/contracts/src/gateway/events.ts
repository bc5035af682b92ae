import { z } from 'zod';
import { uuid } from '../common.ts';
import { defineEvent } from '../event.ts';

export const feedbackRules = z.object({
  /** Weight of each named dimension in a score; only dimensions named here can be rated. Default 0.5, 0.3, 0.2. */
  dimension_weights: z.record(z.string().min(1).max(100), z.number().positive().max(1_000)).optional(),
  /** Ratings at or above the first are preferred over those at or below the second (stars; other scales by score). */
  chosen_min_stars: z.number().min(1).max(5).optional(),
  rejected_max_stars: z.number().min(1).max(5).optional(),
  max_pairs_per_prompt: z.number().int().min(0).max(100).optional(),
  /** What reviewers are told to go by when they compare answers. */
  guideline: z.string().min(1).max(2_000).optional(),
});

export const projectChanged = defineEvent({
  type: 'project.changed',
  version: 1,
  owner: 'gateway',
  summary: 'A project was created, or its settings changed. Carries the whole of what other services need.',
  schema: z.object({
    project_id: uuid,
    slug: z.string(),
    name: z.string(),
    version: z.number().int(),
    settings: z.object({
      default_user_id: z.string().default('anonymous'),
      /** Whether uploads ask for answers by themselves, how many each, and from which model. */
      auto_process: z.boolean().default(false),
      candidates: z.number().int().min(1).max(32).default(8),
      model: z.string().default('nano'),
      temperature: z.number().min(0).max(2).default(0.9),
      max_tokens: z.number().int().min(1).max(4_096).default(64),
      /** Generation per scrape session is capped. */
      max_generations_per_session: z.number().int().min(0).default(10_000),
      /** Shares of the permanent splits; the rest is train. */
      validation_share: z.number().min(0).max(0.9).default(0.1),
      test_share: z.number().min(0).max(0.9).default(0.1),
      judge: z
        .object({ kind: z.enum(['scripted']), taste: z.string() })
        .nullable()
        .default(null),
      /** How ratings become scores and preferences; what is left out has its documented default. */
      feedback: feedbackRules.optional(),
      schedule: z
        .object({ cron: z.string(), time_zone: z.string(), paused: z.boolean() })
        .default({ cron: '0 2 * * *', time_zone: 'UTC', paused: false }),
    }),
  }),
});
