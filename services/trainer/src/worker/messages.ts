import type { TrainProgress } from '@tuneloop/engine/types';
import type { TrainingSettings } from '../domain/defaults.ts';
import type { EvaluationInput, EvaluationOutcome, PairScore, TextScore } from '../domain/evaluation.ts';
import type { LocalMethod } from '../domain/job.ts';

/**
 * What the service and its worker processes say to each other. Everything large goes by file in the job's own folder.
 *
 *   service                worker
 *   train | score | decide ->
 *                          <- progress ... | state (train)
 *   saved                  ->
 *   cancel                 ->
 *                          <- trained | scored | decided | stopped | failed
 */
export interface TrainTask {
  readonly kind: 'train';
  /** The worker's own folder; results are written there. */
  readonly folder: string;
  readonly baseModel: string;
  readonly baseFolder: string;
  readonly method: LocalMethod;
  readonly settings: TrainingSettings;
  readonly threads: number;
  readonly trainFile: string;
  readonly validationFile: string;
  /** PEFT folder of the adapter to start from; null for a fresh one on the base. */
  readonly startFrom: string | null;
  readonly reference: 'base' | 'start';
  readonly stateFile: string | null;
  readonly stateEverySteps: number;
  readonly stateMinSeconds: number;
}

export interface ScoreTask {
  readonly kind: 'score';
  readonly baseFolder: string;
  readonly threads: number;
  readonly testFile: string;
  readonly maxLength: number;
  /** PEFT folders; a null incumbent is the base. */
  readonly candidate: string;
  readonly incumbent: string | null;
}

/** Bootstraps and the gate take seconds of computing: they are done here, off the service's loop. */
export interface DecideTask {
  readonly kind: 'decide';
  readonly input: EvaluationInput;
}

export type Task = TrainTask | ScoreTask | DecideTask;
export type ToWorker = Task | { readonly kind: 'saved' } | { readonly kind: 'cancel' };

export interface TrainedMessage {
  readonly kind: 'trained';
  readonly configFile: string;
  readonly weightsFile: string;
  readonly steps: number;
  readonly firstLoss: number;
  readonly lastLoss: number;
  readonly examples: number;
  readonly skippedTooLong: number;
  readonly trainedTokens: number;
  readonly tokensPerSecond: number;
  readonly seconds: number;
  readonly peakRssBytes: number;
  /** What the bytes depend on besides data and settings. */
  readonly manifest: Readonly<Record<string, unknown>>;
}

export interface ScoredMessage {
  readonly kind: 'scored';
  readonly pairs: readonly PairScore[];
  /** The base's guard texts; empty when it has none. */
  readonly guard: readonly TextScore[];
  readonly skippedTooLong: number;
}

export type FromWorker =
  | { readonly kind: 'progress'; readonly progress: TrainProgress }
  | { readonly kind: 'prepared'; readonly examples: number; readonly skippedTooLong: number }
  | { readonly kind: 'state'; readonly file: string; readonly step: number }
  | { readonly kind: 'stopped' }
  | TrainedMessage
  | ScoredMessage
  | { readonly kind: 'decided'; readonly outcome: EvaluationOutcome }
  | { readonly kind: 'failed'; readonly code: string; readonly message: string; readonly retry: boolean };
