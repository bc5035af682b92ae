import { z } from 'zod';

const price = z.coerce.number().min(0).default(0);

export const configSchema = z.object({
  /** Where the serve process listens. Without it only an upstream can answer. */
  SERVE_URL: z.url().optional(),
  /** An OpenAI-compatible server, with its `/v1`: `https://api.example.com/v1`. */
  UPSTREAM_BASE_URL: z.url().optional(),
  UPSTREAM_API_KEY: z.string().optional(),
  /** US dollars per million tokens. */
  UPSTREAM_PRICE_INPUT_USD: price,
  UPSTREAM_PRICE_OUTPUT_USD: price,
  /** Prompts whose candidates one process generates at a time. */
  GENERATION_CONCURRENCY: z.coerce.number().int().min(1).max(64).default(8),
});
export type ResponsesConfig = z.output<typeof configSchema>;
