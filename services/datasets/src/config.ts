import { MAX_FILE_BYTES } from '@tuneloop/contracts/datasets/files';
import type { ServiceContext } from '@tuneloop/runtime/service';
import { z } from 'zod';

export const datasetsConfig = z.object({
  /** Versions that one process freezes at a time. */
  FREEZE_CONCURRENCY: z.coerce.number().int().min(1).max(16).default(2),
  /**
   * How long a freeze waits for feedback that was given before it: the events that are on their way, and the services
   * that own what is missing. Then it goes on with what it has and says so.
   */
  CATCH_UP_MS: z.coerce.number().int().min(0).max(600_000).default(60_000),
  /** Without a heartbeat for this long a freeze is taken over. */
  FREEZE_LEASE_MS: z.coerce.number().int().min(500).max(600_000).default(10_000),
  /** Largest uploaded file. */
  MAX_FILE_BYTES: z.coerce.number().int().min(1_000).max(MAX_FILE_BYTES).default(MAX_FILE_BYTES),
});
export type DatasetsConfig = z.output<typeof datasetsConfig>;
export type DatasetsContext = ServiceContext<DatasetsConfig>;
