import { z } from 'zod';

/** Pieces that more than one contract uses. JSON on the wire is snake_case. */
export const uuid = z.uuid();
export const timestamp = z.iso.datetime({ offset: true });
export const score = z.number().min(-1).max(1);
export const metadata = z.record(z.string().max(200), z.json());

/** Longest text kept inline in a prompt, answer or comment; larger content goes by blob reference. */
export const MAX_TEXT_CHARS = 200_000;
export const text = z.string().max(MAX_TEXT_CHARS);

export const MAX_PAGE = 500;
export const pageQuery = z.object({
  limit: z.coerce.number().int().min(1).max(MAX_PAGE).default(50),
  cursor: z.string().max(500).optional(),
});

/** A cursor-paginated list. */
export function page<T extends z.ZodType>(item: T) {
  return z.object({ data: z.array(item), next_cursor: z.string().nullable() });
}

export const idParams = z.object({ id: uuid });

/** RFC 9457 problem document, as every /api/v1 error answers. */
export const problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number().int(),
  detail: z.string(),
  code: z.string(),
  errors: z.array(z.object({ field: z.string(), message: z.string() })).optional(),
});

/** One line of the story that `tuneloop why` tells. */
export const timelineEntry = z.object({
  at: timestamp,
  service: z.string(),
  what: z.string(),
  detail: z.record(z.string(), z.json()).optional(),
});
export const timelineQuery = z.object({ correlation_id: uuid });
export const timeline = z.object({ entries: z.array(timelineEntry) });

/** Which slot of a project serves: `default`, or one per brand or task. */
export const slot = z
  .string()
  .regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'use lower-case letters, digits, - and _ (at most 63)')
  .default('default');
