/** What a training run was asked for: `training_args.json` in its output folder, from which it can be resumed. */
import { type ExecutorKind, LORA_TARGETS } from '@tuneloop/engine/types';
import { z } from 'zod';

export const METHODS = ['sft', 'dpo', 'kto', 'reward'] as const;
export type Method = (typeof METHODS)[number];

/** How the model is computed; see ExecutorKind of the engine. */
export const EXECUTORS = ['whole-graph', 'layer-wise'] as const satisfies readonly ExecutorKind[];

const count = z.number().int().min(1);

export const trainSettings = z.strictObject({
  base_model: z.string().min(1),
  dataset: z.string().min(1),
  /** A file of its own, or a share of the dataset. */
  validation: z.string().min(1).optional(),
  validation_split: z.number().gt(0).lt(1).optional(),
  /** Evaluations without a lower loss after which the run ends. */
  early_stopping: count.optional(),
  /** Left out: what the dataset is made for. */
  method: z.enum(METHODS).optional(),
  /** PEFT folder of the adapter to go on from. */
  adapter: z.string().min(1).optional(),
  lora_r: count,
  lora_alpha: z.number().positive(),
  /** Which projections are adapted; left out: all. */
  target_modules: z.array(z.enum(LORA_TARGETS)).min(1).optional(),
  epochs: count.optional(),
  batch_size: count.optional(),
  gradient_accumulation: count.optional(),
  learning_rate: z.number().positive().optional(),
  warmup_ratio: z.number().min(0).max(1).optional(),
  weight_decay: z.number().min(0).optional(),
  max_length: count.optional(),
  packing: z.boolean(),
  beta: z.number().positive().optional(),
  plain_text: z.boolean(),
  /** Hold the frozen base in 4 bits. */
  load_in_4bit: z.boolean(),
  /** Bytes that the process may take. */
  memory: count.optional(),
  executor: z.enum(EXECUTORS).optional(),
  threads: count,
  seed: z.number().int().min(0),
});
export type TrainSettings = z.output<typeof trainSettings>;
