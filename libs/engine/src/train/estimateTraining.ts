/** Entry point for asking what a run would take before there is data for it. */
import { checkLora } from '../adapters/lora.ts';
import type { BaseModel, LoraWeights, TrainingEstimate, TrainingHyper } from '../types.ts';
import { type ExecutorWishes, planExecutor } from './createExecutor.ts';

export interface EstimateOptions extends ExecutorWishes {
  readonly model: BaseModel;
  /** Absent: full training. */
  readonly lora?: LoraWeights;
  readonly hyper: Pick<TrainingHyper, 'batchSize' | 'maxLength'>;
  readonly threads?: number;
}

/**
 * Memory and time of passes of `batchSize` texts of `maxLength` tokens, and by which executor `createTrainer` would run them
 * with the same options, why in words. A trainer's result has the estimate of its own data beside what was measured.
 *
 * @throws EngineError `engine.train.over_budget`, `engine.adapter.*` or `engine.weights.*`
 */
export async function estimateTraining(
  options: EstimateOptions,
): Promise<TrainingEstimate & { readonly reason: string }> {
  const { model, lora, hyper, threads = 1, executor, activations, memoryBudgetBytes } = options;
  if (lora !== undefined) checkLora(model.config, lora);
  return planExecutor({
    model,
    loss: { kind: 'sft' },
    rowLength: hyper.maxLength,
    passTokens: hyper.maxLength * hyper.batchSize,
    threads,
    ...(lora === undefined ? {} : { lora }),
    ...(executor === undefined ? {} : { executor }),
    ...(activations === undefined ? {} : { activations }),
    ...(memoryBudgetBytes === undefined ? {} : { memoryBudgetBytes }),
  });
}
