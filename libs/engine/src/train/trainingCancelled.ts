import { EngineError } from '../errors.ts';

/** The run was cancelled; its state was saved if the options asked for checkpoints. */
export class TrainingCancelled extends EngineError {
  readonly step: number;

  constructor(step: number, cause: unknown) {
    super('engine.train.cancelled', `training was cancelled after step ${step}`, { cause });
    this.name = 'TrainingCancelled';
    this.step = step;
  }
}
