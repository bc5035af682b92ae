import type { ServiceContext } from '@tuneloop/runtime/service';
import { z } from 'zod';

const positive = z.coerce.number().int().min(1);

/** `nano=/path,other=/path` as a map of base model name to folder. */
const baseModels = z
  .string()
  .default('')
  .transform((text, ctx) => {
    const models = new Map<string, string>();
    for (const part of text.split(',').filter((item) => item.trim() !== '')) {
      const at = part.indexOf('=');
      const name = part.slice(0, at).trim();
      const folder = part.slice(at + 1).trim();
      if (at < 1 || folder === '') {
        ctx.addIssue({ code: 'custom', message: 'must be a list name=/folder,name=/folder' });
        return z.NEVER;
      }
      models.set(name, folder);
    }
    return models;
  });

export const trainerConfig = z.object({
  /** Bases that can be trained here: folders with config.json, safetensors and tokenizer. */
  BASE_MODELS: baseModels,
  /** Jobs that this process trains at a time; each has a worker process of its own. */
  TRAINING_CONCURRENCY: positive.max(64).default(1),
  EVALUATION_CONCURRENCY: positive.max(16).default(1),
  /** Threads of one worker's matrix kernels. The bytes of an adapter depend on it. */
  TRAINER_THREADS: positive.max(256).default(1),
  /** The training state is saved after so many steps, but not more often than the least number of seconds. */
  STATE_EVERY_STEPS: positive.default(20),
  STATE_MIN_SECONDS: z.coerce.number().min(0).default(5),
  /** Fresh samples for each test prompt and side. */
  EVALUATION_SAMPLES: positive.max(32).default(4),
  /** Each candidate sample is compared with so many of the incumbent's. */
  EVALUATION_ROUNDS: positive.max(32).default(2),
  EVALUATION_MAX_PROMPTS: positive.max(10_000).default(1_000),
  /** Decisions planned per slot and quarter: the gate sets a level aside for each. */
  GATE_EXPECTED_DECISIONS: positive.max(1_000).default(4),
  /** A job that waits longer for its dataset has failed. */
  DATASET_DEADLINE_MS: z.coerce
    .number()
    .int()
    .min(1_000)
    .default(60 * 60_000),
  /** Where workers keep their files while they run; the system's temporary folder unless given. */
  TRAINER_WORK_DIR: z.string().optional(),
});
export type TrainerConfig = z.output<typeof trainerConfig>;
export type TrainerContext = ServiceContext<TrainerConfig>;
