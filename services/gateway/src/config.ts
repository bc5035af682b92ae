import type { ServiceContext } from '@tuneloop/runtime/service';
import { z } from 'zod';

export const gatewayConfig = z.object({
  /** Signs NATS users of outside publishers; absent where the NATS server is managed elsewhere. */
  NATS_ACCOUNT_SEED: z.string().optional(),
  /** Where collectors reach NATS; the services' own URL unless given. */
  NATS_PUBLIC_URL: z.string().optional(),
  /** Requests a minute for each key. */
  RATE_LIMIT_PER_MINUTE: z.coerce.number().int().min(1).default(60_000),
  /** Built console; without it the gateway serves none. */
  CONSOLE_DIR: z.string().optional(),
  /** Origins that browsers may call from; `*` for any. */
  CORS_ORIGINS: z.string().default('*'),
});
export type GatewayConfig = z.output<typeof gatewayConfig>;
export type GatewayContext = ServiceContext<GatewayConfig>;
