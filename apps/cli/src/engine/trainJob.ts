/** A training run from files to files: what the training process does. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { initLora } from '@tuneloop/engine/adapters/lora';
import { readPeftFolder, writePeftFolder } from '@tuneloop/engine/adapters/peft';
import { createRandom } from '@tuneloop/engine/random';
import { planEpoch } from '@tuneloop/engine/train/plan';
import { createTrainer } from '@tuneloop/engine/train/trainer';
import { LORA_TARGETS, type LoraWeights, type TrainerOptions, type TrainingHyper } from '@tuneloop/engine/types';
import { type Base, loadBase, parameterCount } from './baseModel.ts';
import { type Encoded, encodePreferences, encodeSft, type Writing } from './dataset/encode.ts';
import { DataError, readJsonLines } from './dataset/jsonLines.ts';
import { parseRow, type Row } from './dataset/rows.ts';
import { type RunFolder, type SavedRun } from './runFolder.ts';
import type { FromTraining, TrainOutcome, TrainPlan, TrainSummary } from './trainMessages.ts';
import type { Method, TrainSettings } from './trainSettings.ts';

const DEFAULT_MAX_LENGTH = 1024;
/** States saved over a whole run, besides the one at ctrl-C. */
const STATES_A_RUN = 20;
/** Times the validation loss is measured over a whole run. */
const EVALUATIONS_A_RUN = 20;

export interface TrainJob {
  readonly settings: TrainSettings;
  readonly folder: RunFolder;
  readonly resume: boolean;
  readonly dryRun: boolean;
  readonly signal: AbortSignal;
  readonly send: (message: FromTraining) => void;
}

interface Rows {
  readonly training: readonly Row[];
  readonly validation: readonly Row[];
}

/** Draws the validation rows by the seed: the same settings give the same split. */
function splitRows(rows: readonly Row[], share: number, seed: number): Rows {
  if (rows.length < 2) throw new DataError('--validation-split needs at least 2 examples');
  const random = createRandom(seed);
  const wanted = Math.min(rows.length - 1, Math.max(1, Math.round(rows.length * share)));
  const order = rows.map((_, i) => ({ i, key: random() })).toSorted((a, b) => a.key - b.key);
  const chosen = new Set(order.slice(0, wanted).map(({ i }) => i));
  return { training: rows.filter((_, i) => !chosen.has(i)), validation: rows.filter((_, i) => chosen.has(i)) };
}

async function readRows(settings: TrainSettings): Promise<Rows> {
  const rows = await readJsonLines(settings.dataset, parseRow);
  if (settings.validation_split !== undefined) return splitRows(rows, settings.validation_split, settings.seed);
  const validation = settings.validation === undefined ? [] : await readJsonLines(settings.validation, parseRow);
  return { training: rows, validation };
}

/** What a dataset is made for, by its first row. */
function fittingMethod({ training }: Rows): Method {
  return training[0]?.kind === 'preference' ? 'dpo' : 'sft';
}

const longestOf = (encoded: Encoded<unknown>): number => encoded.lengths.reduce((a, b) => Math.max(a, b), 0);

function hyperOf(settings: TrainSettings, method: Method, maxLength: number): TrainingHyper {
  return {
    epochs: settings.epochs ?? 3,
    batchSize: settings.batch_size ?? 8,
    gradientAccumulation: settings.gradient_accumulation ?? 1,
    maxLength,
    packing: settings.packing,
    learningRate: settings.learning_rate ?? (method === 'dpo' ? 5e-5 : 2e-4),
    schedule: 'cosine',
    warmupRatio: settings.warmup_ratio ?? 0.1,
    weightDecay: settings.weight_decay ?? 0,
    maxGradNorm: 1,
    seed: settings.seed,
    ...(method === 'dpo' ? { dpo: { beta: settings.beta ?? 0.1 } } : {}),
  };
}

/** Optimiser steps, as the trainer will count them. */
function stepsOf(lengths: readonly number[], hyper: TrainingHyper): number {
  const { batchSize, seed, gradientAccumulation = 1 } = hyper;
  const packTo = hyper.packing === true ? { packTo: hyper.maxLength } : {};
  let steps = 0;
  for (let epoch = 0; epoch < hyper.epochs; epoch++) {
    steps += Math.ceil(planEpoch({ lengths, batchSize, seed, ...packTo }, epoch).length / gradientAccumulation);
  }
  return steps;
}

interface Prepared {
  readonly base: Base;
  readonly lora: LoraWeights;
  readonly plan: TrainPlan;
  readonly options: TrainerOptions;
}

async function prepare(job: TrainJob, saved: SavedRun | undefined): Promise<Prepared> {
  const { settings } = job;
  job.send({ kind: 'stage', text: `reading ${settings.dataset}` });
  const rows = await readRows(settings);
  const method = settings.method ?? fittingMethod(rows);
  job.send({ kind: 'stage', text: `loading ${settings.base_model}` });
  const base = await loadBase(settings.base_model);
  const start = settings.adapter === undefined ? undefined : await readPeftFolder(settings.adapter);
  const shape = { r: settings.lora_r, alpha: settings.lora_alpha, targets: LORA_TARGETS, dropout: 0 } as const;
  const lora = start ?? initLora(base.model.config, shape, settings.seed);
  job.send({ kind: 'stage', text: 'writing examples as tokens' });
  const maxLength = Math.min(settings.max_length ?? DEFAULT_MAX_LENGTH, base.model.config.maxPositions);
  const { tokenizer, chat, eosTokenIds } = base;
  const asChat = chat !== undefined && !settings.plain_text ? { chat } : {};
  const writing: Writing = { tokenizer, eosTokenIds, maxLength, ...asChat };
  const common = { model: base.model, lora, threads: settings.threads, signal: job.signal };
  const checked = <T>(encoded: Encoded<T>): Encoded<T> => {
    if (encoded.examples.length > 0) return encoded;
    throw new DataError(`every example is longer than ${maxLength} tokens: raise --max-length or shorten them`);
  };
  /** Rows need not be longer than the longest example; packed ones are filled. */
  const hyper = (training: Encoded<unknown>, validation: Encoded<unknown>): TrainingHyper => {
    const longest = Math.max(longestOf(training), longestOf(validation), 1);
    const bounded = method === 'sft' && !settings.packing ? Math.min(maxLength, longest) : maxLength;
    return hyperOf(settings, method, bounded);
  };
  const build = <T>(encode: (part: readonly Row[]) => Encoded<T>) => {
    const training = checked(encode(rows.training));
    const validation = encode(rows.validation);
    const settled = hyper(training, validation);
    const steps = stepsOf(training.lengths, settled);
    const everySteps = Math.max(1, Math.ceil(steps / EVALUATIONS_A_RUN));
    const evaluation =
      validation.examples.length === 0 ? {} : { evaluation: { data: validation.examples, everySteps } };
    return { training, validation, hyper: settled, steps, evaluation };
  };
  const describe = ({ training, validation, hyper: used, steps }: Omit<ReturnType<typeof build>, 'evaluation'>) => ({
    baseModel: settings.base_model,
    method,
    parameters: parameterCount(base),
    trainedParameters: [...lora.tensors.values()].reduce((n, { a, b }) => n + a.data.length + b.data.length, 0),
    examples: training.examples.length,
    validationExamples: validation.examples.length,
    tokens: training.lengths.reduce((a, b) => a + b, 0),
    longest: longestOf(training),
    maxLength: used.maxLength,
    cut: training.cut,
    left: training.left,
    epochs: used.epochs,
    batchSize: used.batchSize,
    totalSteps: steps,
    learningRate: used.learningRate,
    threads: settings.threads,
    ...(saved === undefined ? {} : { resumeStep: saved.step }),
  });
  const checkpointed = (steps: number) => ({
    checkpoint: {
      everySteps: Math.max(1, Math.ceil(steps / STATES_A_RUN)),
      save: (state: Uint8Array, step: number) => job.folder.writeState(state, step),
    },
    ...(saved === undefined ? {} : { resumeFrom: saved.state }),
  });
  if (method === 'dpo') {
    const built = build((part) => encodePreferences(part, writing, method));
    const { training, hyper: used, evaluation, steps } = built;
    const parts = { data: training.examples, hyper: used, reference: start ?? ('base' as const), ...evaluation };
    return { base, lora, plan: describe(built), options: { task: 'dpo', ...common, ...parts, ...checkpointed(steps) } };
  }
  const built = build((part) => encodeSft(part, writing));
  const { training, hyper: used, evaluation, steps } = built;
  const parts = { data: training.examples, hyper: used, ...evaluation };
  return { base, lora, plan: describe(built), options: { task: 'sft', ...common, ...parts, ...checkpointed(steps) } };
}

async function fileDigest(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/**
 * Runs a job. @throws TrainingCancelled when stopped, DataError or EngineError when it cannot be done
 */
export async function runTrainJob(job: TrainJob): Promise<TrainOutcome> {
  const { settings, folder } = job;
  const saved = job.resume ? await folder.readState() : undefined;
  const { plan, options } = await prepare(job, saved);
  job.send({ kind: 'plan', plan });
  if (job.dryRun) return { kind: 'planned' };
  await folder.writeSettings({ ...settings, method: plan.method });
  folder.beginMetrics(saved?.step ?? 0);
  const trainer = await createTrainer({
    ...options,
    onProgress: (progress) => {
      folder.appendMetrics(progress);
      job.send({ kind: 'progress', progress });
    },
  });
  const result = await trainer.run();
  await writePeftFolder(folder.path, result.lora!, settings.base_model);
  await folder.writeManifest({
    ...result.manifest,
    node: process.version,
    method: plan.method,
    base_model: settings.base_model,
    dataset_sha256: await fileDigest(settings.dataset),
    hyper: options.hyper,
    steps: result.steps,
    first_loss: result.firstLoss,
    last_loss: result.lastLoss,
    tokens: result.tokens,
    seconds: result.seconds,
    peak_rss_bytes: result.peakRssBytes,
  });
  await folder.removeStates();
  const summary: TrainSummary = {
    steps: result.steps,
    firstLoss: result.firstLoss,
    lastLoss: result.lastLoss,
    tokensPerSecond: result.tokens / Math.max(result.seconds, 1e-3),
    seconds: result.seconds,
    peakRssBytes: result.peakRssBytes,
    executor: result.manifest.executor,
    executorReason: result.manifest.executorReason,
  };
  return { kind: 'trained', summary };
}
