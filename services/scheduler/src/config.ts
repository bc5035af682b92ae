import type { ServiceContext } from '@tuneloop/runtime/service';
import { z } from 'zod';
import type { Deadlines } from './domain/run.ts';

const MINUTE_MS = 60_000;
const milliseconds = z.coerce.number().int().min(1_000);

export const schedulerConfig = z.object({
  /** How long a run may wait for each step before it fails with that as its cause. */
  DATASET_DEADLINE_MS: milliseconds.default(30 * MINUTE_MS),
  TRAINING_DEADLINE_MS: milliseconds.default(24 * 60 * MINUTE_MS),
  EVALUATION_DEADLINE_MS: milliseconds.default(6 * 60 * MINUTE_MS),
});
export type SchedulerConfig = z.output<typeof schedulerConfig>;
export type SchedulerContext = ServiceContext<SchedulerConfig>;

export function deadlinesOf(config: SchedulerConfig): Deadlines {
  return {
    datasetMs: config.DATASET_DEADLINE_MS,
    trainingMs: config.TRAINING_DEADLINE_MS,
    evaluationMs: config.EVALUATION_DEADLINE_MS,
  };
}
