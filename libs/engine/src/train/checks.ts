/** Refusals by name, before anything is compiled. */
import { EngineError } from '../errors.ts';
import type { EarlyStoppingOptions, TokenIds, TrainerOptions, TrainingHyper } from '../types.ts';

/** @throws EngineError `engine.train.bad_hyper` */
export function checkEarlyStopping(options: EarlyStoppingOptions | undefined, evaluated: boolean): void {
  if (options === undefined) return;
  const { patience, minDelta = 0 } = options;
  if (!Number.isInteger(patience) || patience < 1) {
    const message = `earlyStopping.patience must be an integer of at least 1, found ${patience}`;
    throw new EngineError('engine.train.bad_hyper', message);
  }
  if (!(minDelta >= 0)) {
    throw new EngineError('engine.train.bad_hyper', `earlyStopping.minDelta must not be negative, found ${minDelta}`);
  }
  if (!evaluated) {
    throw new EngineError('engine.train.bad_hyper', 'earlyStopping needs evaluation data to watch');
  }
}

/** @throws EngineError `engine.train.too_long` or `engine.train.bad_hyper` */
export function checkHyper(hyper: TrainingHyper, maxPositions: number): void {
  if (hyper.maxLength > maxPositions) {
    throw new EngineError(
      'engine.train.too_long',
      `a length of ${hyper.maxLength} exceeds the model's ${maxPositions} positions`,
    );
  }
  const whole = { epochs: hyper.epochs, batchSize: hyper.batchSize, maxLength: hyper.maxLength };
  for (const [name, value] of Object.entries({ ...whole, gradientAccumulation: hyper.gradientAccumulation ?? 1 })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new EngineError('engine.train.bad_hyper', `${name} must be an integer of at least 1, found ${value}`);
    }
  }
  if (!(hyper.learningRate >= 0)) {
    throw new EngineError('engine.train.bad_hyper', `learningRate must not be negative, found ${hyper.learningRate}`);
  }
}

function exampleTexts(options: TrainerOptions): TokenIds[] {
  switch (options.task) {
    case 'sft':
      return [...options.data, ...(options.evaluation?.data ?? [])].map((e) => e.ids);
    case 'dpo':
      return [...options.data, ...(options.evaluation?.data ?? [])].flatMap((e) => [e.prompt, e.chosen, e.rejected]);
    case 'reward':
      return [...options.data, ...(options.evaluation?.data ?? [])].flatMap((e) =>
        'scores' in e ? [e.ids] : [e.prompt, e.chosen, e.rejected],
      );
    case 'kto':
      return [...options.data, ...(options.evaluation?.data ?? [])].flatMap((e) => [e.prompt, e.completion]);
  }
}

/** Ids outside the vocabulary would fail inside the graph without a name. @throws EngineError `engine.train.bad_token` */
export function checkTokens(options: TrainerOptions): void {
  const { vocabSize } = options.model.config;
  for (const ids of exampleTexts(options)) {
    for (let t = 0; t < ids.length; t++) {
      const id = ids[t];
      if (id === undefined || !(id >= 0 && id < vocabSize)) {
        throw new EngineError('engine.train.bad_token', `token id ${id} is outside the vocabulary of ${vocabSize}`);
      }
    }
  }
}
