/** What training a classifier takes, checked before anything is read. */
import { EngineError } from '../errors.ts';
import type { Classifier } from './classifier.ts';
import type { ColumnSpec } from './features.ts';
import type { Table } from './table.ts';

export interface ClassifierHyper {
  /** Default 5. */
  readonly epochs?: number;
  /** Rows of one step (default 32). */
  readonly batchSize?: number;
  /** Constant (default 1e-3). */
  readonly learningRate?: number;
  /** Decoupled, on matrices (default 0.01). */
  readonly weightDecay?: number;
  /** Epochs without a lower validation loss after which training ends (default 5; 0: never). The best epoch is kept. */
  readonly patience?: number;
  /** `balanced`: every class has the same weight in the loss, however many rows it has (default `none`). */
  readonly classWeights?: 'none' | 'balanced';
  readonly seed: number;
}

export interface ClassifierTrainOptions {
  readonly table: Table;
  /** The column to predict. */
  readonly target: string;
  /** What to predict it from; default: every other column, its kind by its cells. Fixed when fine-tuning. */
  readonly columns?: readonly ColumnSpec[];
  /** Widths of the hidden layers (default 64, 32). Fixed when fine-tuning. */
  readonly hidden?: readonly number[];
  /** Categories seen less often count as unknown (default 2). */
  readonly minCategoryCount?: number;
  readonly hyper: ClassifierHyper;
  /** A table of its own, or the share of the rows that is held out (default 0.2; 0: none). */
  readonly validation?: Table | number;
  /** Fine-tune this one: its features, categories and classes stay. The given classifier is not changed. */
  readonly startFrom?: Classifier;
  /** Classes of the table that `startFrom` does not know: an error (default), or new outputs. */
  readonly newClasses?: 'refuse' | 'add';
  /** Earlier rows mixed in so that fine-tuning does not forget: `ratio` of them to one of the table (default 3). */
  readonly replay?: { readonly table: Table; readonly ratio?: number };
  readonly threads?: number;
  /** Stops after the epoch in hand; the best so far is returned. */
  readonly signal?: AbortSignal;
  readonly onEpoch?: (progress: EpochProgress) => void;
}

export interface EpochProgress {
  /** From 1. */
  readonly epoch: number;
  readonly epochs: number;
  readonly loss: number;
  readonly validationLoss?: number;
  readonly validationAccuracy?: number;
}

export const DEFAULT_HIDDEN: readonly number[] = [64, 32];

export function badHyper(field: string, rule: string, found: unknown): EngineError {
  return new EngineError('engine.classifier.bad_hyper', `${field} must be ${rule}, found ${String(found)}`);
}

export function checkOptions({ hyper, hidden = DEFAULT_HIDDEN, validation = 0, replay }: ClassifierTrainOptions): void {
  const whole = { epochs: hyper.epochs ?? 1, batchSize: hyper.batchSize ?? 1 };
  for (const [field, value] of Object.entries(whole)) {
    if (!Number.isInteger(value) || value < 1) throw badHyper(field, 'an integer of at least 1', value);
  }
  if (!((hyper.learningRate ?? 1) > 0)) throw badHyper('learningRate', 'above 0', hyper.learningRate);
  if (!((hyper.weightDecay ?? 0) >= 0)) throw badHyper('weightDecay', 'at least 0', hyper.weightDecay);
  if (!((hyper.patience ?? 0) >= 0)) throw badHyper('patience', 'at least 0', hyper.patience);
  if (hidden.length === 0 || hidden.some((width) => !Number.isInteger(width) || width < 1)) {
    throw badHyper('hidden', 'at least one width of at least 1', hidden.join());
  }
  if (typeof validation === 'number' && !(validation >= 0 && validation < 1)) {
    throw badHyper('validation', 'a share of at least 0 and below 1', validation);
  }
  if (replay && !((replay.ratio ?? 1) > 0)) throw badHyper('replay.ratio', 'above 0', replay.ratio);
}
