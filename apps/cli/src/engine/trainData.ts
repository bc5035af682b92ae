/** From files of rows to what the trainer is given, for each method. */
import { createRandom } from '@tuneloop/engine/random';
import { planEpoch } from '@tuneloop/engine/train/plan';
import type {
  DpoExample,
  KtoExample,
  LoraWeights,
  RewardHead,
  RewardPair,
  ScoredText,
  SftExample,
  TrainerOptions,
  TrainingHyper,
} from '@tuneloop/engine/types';
import {
  type Encoded,
  encodePreferences,
  encodeRated,
  encodeRewardPairs,
  encodeScored,
  encodeSft,
  type Writing,
} from './dataset/encode.ts';
import { DataError, readJsonLines } from './dataset/jsonLines.ts';
import { parseRow, type Row } from './dataset/rows.ts';
import type { Method, TrainSettings } from './trainSettings.ts';

/** Times the validation loss is measured over a whole run. */
const EVALUATIONS_A_RUN = 20;

interface Rows {
  readonly training: readonly Row[];
  readonly validation: readonly Row[];
}

interface Parts<T> {
  readonly training: Encoded<T>;
  readonly validation: Encoded<T>;
}

export type TrainData =
  | (Parts<SftExample> & { readonly method: 'sft' })
  | (Parts<DpoExample> & { readonly method: 'dpo' })
  | (Parts<KtoExample> & { readonly method: 'kto' })
  | (Parts<RewardPair> & { readonly method: 'reward'; readonly kind: 'pairs' })
  | (Parts<ScoredText> & { readonly method: 'reward'; readonly kind: 'scores' });

/** Draws the validation rows by the seed: the same settings give the same split. */
function splitRows(rows: readonly Row[], share: number, seed: number): Rows {
  if (rows.length < 2) throw new DataError('--validation-split needs at least 2 examples');
  const random = createRandom(seed);
  const wanted = Math.min(rows.length - 1, Math.max(1, Math.round(rows.length * share)));
  const order = rows.map((_, i) => ({ i, key: random() })).toSorted((a, b) => a.key - b.key);
  const chosen = new Set(order.slice(0, wanted).map(({ i }) => i));
  return { training: rows.filter((_, i) => !chosen.has(i)), validation: rows.filter((_, i) => chosen.has(i)) };
}

/** @throws DataError naming file and line */
export async function readRows(settings: TrainSettings): Promise<Rows> {
  const rows = await readJsonLines(settings.dataset, parseRow);
  if (settings.validation_split !== undefined) return splitRows(rows, settings.validation_split, settings.seed);
  const validation = settings.validation === undefined ? [] : await readJsonLines(settings.validation, parseRow);
  return { training: rows, validation };
}

/** What a dataset is made for, by its first row. */
export function fittingMethod({ training }: Rows): Method {
  const kind = training[0]?.kind;
  if (kind === 'preference') return 'dpo';
  if (kind === 'scored') return 'reward';
  return kind === 'rated' ? 'kto' : 'sft';
}

/** @throws DataError for rows that the method cannot learn from, or when none is left */
export function encodeRows(rows: Rows, method: Method, writing: Writing): TrainData {
  const both = <T>(encode: (part: readonly Row[]) => Encoded<T>): Parts<T> => {
    const training = encode(rows.training);
    if (training.examples.length > 0) return { training, validation: encode(rows.validation) };
    throw new DataError(`every example is longer than ${writing.maxLength} tokens: raise --max-length or shorten them`);
  };
  if (method === 'dpo') return { method, ...both((part) => encodePreferences(part, writing, method)) };
  if (method === 'kto') return { method, ...both((part) => encodeRated(part, writing)) };
  if (method === 'reward') {
    return rows.training[0]?.kind === 'scored'
      ? { method, kind: 'scores', ...both((part) => encodeScored(part, writing)) }
      : { method, kind: 'pairs', ...both((part) => encodeRewardPairs(part, writing)) };
  }
  return { method, ...both((part) => encodeSft(part, writing)) };
}

export const longestOf = (encoded: Encoded<unknown>): number => encoded.lengths.reduce((a, b) => Math.max(a, b), 0);

/** Optimiser steps, as the trainer counts them. */
export function stepsOf({ training, method }: TrainData, hyper: TrainingHyper): number {
  const { batchSize, seed, gradientAccumulation = 1 } = hyper;
  const packTo = method === 'sft' && hyper.packing === true ? { packTo: hyper.maxLength } : {};
  let steps = 0;
  for (let epoch = 0; epoch < hyper.epochs; epoch++) {
    const plan = planEpoch({ lengths: training.lengths, batchSize, seed, ...packTo }, epoch);
    steps += Math.ceil(plan.length / gradientAccumulation);
  }
  return steps;
}

type Common = Omit<TrainerOptions, 'task' | 'data' | 'evaluation' | 'reference' | 'head' | 'lora'> & {
  readonly lora: LoraWeights;
};

/** What a method trains beside the adapter, or measures against. */
export interface MethodParts {
  /** Of preferences and verdicts. */
  readonly reference: 'base' | LoraWeights;
  /** Of a reward model. */
  readonly head?: RewardHead;
}

export function trainerOptions(data: TrainData, common: Common, steps: number, method: MethodParts): TrainerOptions {
  const { reference, head } = method;
  const everySteps = Math.max(1, Math.ceil(steps / EVALUATIONS_A_RUN));
  const parts = <T>({ training, validation }: Parts<T>) => ({
    data: training.examples,
    ...(validation.examples.length === 0 ? {} : { evaluation: { data: validation.examples, everySteps } }),
  });
  if (data.method === 'dpo') return { ...common, task: data.method, reference, ...parts(data) };
  if (data.method === 'kto') return { ...common, task: data.method, reference, ...parts(data) };
  if (data.method === 'reward') {
    const given = { ...common, task: data.method, ...(head === undefined ? {} : { head }) };
    return data.kind === 'pairs' ? { ...given, ...parts(data) } : { ...given, ...parts(data) };
  }
  return { ...common, task: data.method, ...parts(data) };
}
