/** What a training method adds to the common loop: rows, loss inputs and what is reported. */
import type { Feeds } from '../graph/session.ts';
import type { LossSpec } from '../models/losses.ts';
import type { TokenIds, TrainProgress } from '../types.ts';
import type { Row } from './batch.ts';
import type { Executor, PassResult } from './executor.ts';
import type { PlannedBatch } from './plan.ts';

/** Figures of a pass that progress reports as means over a step's passes. */
export type Metric = 'rewardMargin' | 'accuracy' | 'divergence' | 'desirableReward' | 'undesirableReward';
export type Metrics = Partial<Record<Metric, readonly number[]>>;

export interface Pass {
  readonly feeds: Feeds;
  /** Real tokens, padding left out. */
  readonly tokens: number;
  readonly measure?: (result: PassResult) => Metrics;
}

/** Log-probabilities under the frozen reference that the passes need: computed once, saved with the state. */
export interface Reference {
  readonly rows: readonly Row[];
  /** Read by the passes. */
  readonly values: Float32Array;
  /** Fills `values` from the log-probabilities of each row's picks. */
  fill(logProbs: readonly Float32Array[]): void;
}

/** What laying out a pass may need: in how many parts logits are made, and passes without gradients. */
export type PassRunner = Pick<Executor, 'chunks' | 'lossPass'>;

export interface Task {
  readonly loss: LossSpec;
  /** Tokens of each example in its row. */
  readonly lengths: Int32Array;
  /** What each example adds to the divisor of its step's loss. */
  readonly shares: Float64Array;
  readonly reference?: Reference;
  /** Every token array that the result depends on, for the fingerprint of a saved state. */
  tokenArrays(): Iterable<TokenIds | Float32Array | readonly number[]>;
  /** Inputs of one pass for `executor`; its loss is divided by `divisor`. */
  pass(batch: PlannedBatch, divisor: number, executor: PassRunner): Promise<Pass>;
}

export function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

/** Means over several passes, for progress. */
export function meanMetrics(passes: readonly Metrics[]): Partial<Pick<TrainProgress, Metric>> {
  const all = new Map<string, number[]>();
  for (const pass of passes) {
    for (const [name, values] of Object.entries(pass)) all.set(name, [...(all.get(name) ?? []), ...values]);
  }
  return Object.fromEntries([...all].flatMap(([name, values]) => (values.length > 0 ? [[name, mean(values)]] : [])));
}
