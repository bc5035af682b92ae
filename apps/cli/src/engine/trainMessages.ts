import type { TrainProgress } from '@tuneloop/engine/types';
import type { Method, TrainSettings } from './trainSettings.ts';

/**
 * What the command and its training process say to each other.
 *
 *   command      process
 *   train     ->
 *             <- stage ... plan, estimate, progress ...
 *   stop      ->
 *             <- trained | planned | stopped | failed
 */
export type ToTraining =
  | {
      readonly kind: 'train';
      readonly settings: TrainSettings;
      readonly output: string;
      readonly resume: boolean;
      /** Stop when the plan is made. */
      readonly dryRun: boolean;
    }
  | { readonly kind: 'stop' };

/** What will happen, said before it does. */
export interface TrainPlan {
  readonly baseModel: string;
  readonly method: Method;
  readonly parameters: number;
  readonly trainedParameters: number;
  readonly examples: number;
  readonly validationExamples: number;
  /** Of one epoch. */
  readonly tokens: number;
  readonly longest: number;
  readonly maxLength: number;
  /** Lines that are cut, or left out because they are longer than `maxLength`. */
  readonly cut: readonly number[];
  readonly left: readonly number[];
  readonly epochs: number;
  readonly batchSize: number;
  readonly totalSteps: number;
  readonly learningRate: number;
  readonly threads: number;
  /** The base is held in 4 bits. */
  readonly fourBit: boolean;
  /** Steps that an earlier run has done. */
  readonly resumeStep?: number;
}

/** What the chosen way of computing will take. */
export interface TrainEstimate {
  readonly memoryBytes: number;
  /** By the speed measured just now, evaluations aside. */
  readonly seconds: number;
  readonly executorReason: string;
}

export interface TrainSummary {
  readonly steps: number;
  /** With early stopping: where what is written was trained to. */
  readonly best?: { readonly step: number; readonly evalLoss: number };
  readonly firstLoss: number;
  readonly lastLoss: number;
  readonly tokensPerSecond: number;
  readonly seconds: number;
  readonly peakRssBytes: number;
  readonly executor: string;
  readonly executorReason: string;
}

export type TrainOutcome =
  | { readonly kind: 'trained'; readonly summary: TrainSummary }
  | { readonly kind: 'planned' }
  | { readonly kind: 'stopped'; readonly step: number; readonly saved: boolean }
  | { readonly kind: 'failed'; readonly message: string };

export type FromTraining =
  | { readonly kind: 'stage'; readonly text: string }
  | { readonly kind: 'plan'; readonly plan: TrainPlan }
  | { readonly kind: 'estimate'; readonly estimate: TrainEstimate }
  | { readonly kind: 'progress'; readonly progress: TrainProgress }
  | TrainOutcome;
