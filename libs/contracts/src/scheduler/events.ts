import { z } from 'zod';
import { slot, uuid } from '../common.ts';
import { datasetSpec } from '../datasets/events.ts';
import { defineEvent } from '../event.ts';
import { trainingMethod } from '../trainer/events.ts';

export const retrainingSource = z.enum(['auto_daily', 'manual', 'decay_triggered']);
export const priority = z.enum(['low', 'normal', 'high']);

/** Overrides of the method's defaults; a field left out keeps its default. */
export const hyperparameters = z.object({
  n_epochs: z.number().int().min(1).max(1_000).optional(),
  batch_size: z.number().int().min(1).max(4_096).optional(),
  learning_rate: z.number().positive().max(1).optional(),
  beta: z.number().positive().max(10).optional(),
  nll_weight: z.number().min(0).max(100).optional(),
  lora_r: z.number().int().min(1).max(256).optional(),
  lora_alpha: z.number().positive().max(1_024).optional(),
  max_length: z.number().int().min(8).max(131_072).optional(),
});

export const trainingRequested = defineEvent({
  type: 'training.requested',
  version: 1,
  owner: 'scheduler',
  summary: 'One turn of the loop begins: datasets freezes a version, the trainer makes a waiting job.',
  schema: z.object({
    request_id: uuid,
    run_id: uuid,
    source: retrainingSource,
    priority,
    slot,
    method: trainingMethod,
    base_model: z.string(),
    start_from: z.string().default('base'),
    reference: z.string().default('base'),
    seed: z.number().int().nullable(),
    hyperparameters,
    dataset: datasetSpec,
    requested_by: z.string(),
  }),
});
