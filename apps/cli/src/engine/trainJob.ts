/** A training run from files to files: what the training process does. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { initLora } from '@tuneloop/engine/adapters/lora';
import { readPeftFolder, writePeftFolder } from '@tuneloop/engine/adapters/peft';
import { initRewardHead, readRewardFolder, writeRewardFolder } from '@tuneloop/engine/adapters/rewardHead';
import { TRAINING_DEFAULTS } from '@tuneloop/engine/train/defaults';
import { createTrainer } from '@tuneloop/engine/train/trainer';
import {
  type BaseModel,
  LORA_TARGETS,
  type LoraWeights,
  type TrainerOptions,
  type TrainingHyper,
  type TrainResult,
} from '@tuneloop/engine/types';
import { type Base, loadBase, parameterCount } from './baseModel.ts';
import { rewardDimensions, type Writing } from './dataset/encode.ts';
import type { RunFolder, SavedRun } from './runFolder.ts';
import {
  encodeRows,
  fittingMethod,
  longestOf,
  type MethodParts,
  readRows,
  stepsOf,
  type TrainData,
  trainerOptions,
} from './trainData.ts';
import type { FromTraining, TrainOutcome, TrainPlan, TrainSummary } from './trainMessages.ts';
import type { Method, TrainSettings } from './trainSettings.ts';

const DEFAULT_MAX_LENGTH = 1024;
/** States saved over a whole run, besides the one at ctrl-C. */
const STATES_A_RUN = 20;

export interface TrainJob {
  readonly settings: TrainSettings;
  readonly folder: RunFolder;
  readonly resume: boolean;
  readonly dryRun: boolean;
  readonly signal: AbortSignal;
  readonly send: (message: FromTraining) => void;
}

function hyperOf(settings: TrainSettings, method: Method, maxLength: number): TrainingHyper {
  const defaults = TRAINING_DEFAULTS[method];
  const beta = settings.beta === undefined ? {} : { beta: settings.beta };
  return {
    ...defaults,
    epochs: settings.epochs ?? defaults.epochs,
    batchSize: settings.batch_size ?? defaults.batchSize,
    gradientAccumulation: settings.gradient_accumulation ?? defaults.gradientAccumulation,
    maxLength,
    packing: settings.packing,
    learningRate: settings.learning_rate ?? defaults.learningRate,
    warmupRatio: settings.warmup_ratio ?? defaults.warmupRatio,
    weightDecay: settings.weight_decay ?? defaults.weightDecay,
    seed: settings.seed,
    ...(settings.early_stopping === undefined ? {} : { earlyStopping: { patience: settings.early_stopping } }),
    ...(method === 'dpo' ? { dpo: { ...TRAINING_DEFAULTS.dpo.dpo, ...beta } } : {}),
    ...(method === 'kto' ? { kto: { ...TRAINING_DEFAULTS.kto.kto, ...beta } } : {}),
  };
}

/** Rows need not be longer than the longest example, unless they are filled (packing) or joined (pairs). */
function rowLength(data: TrainData, settings: TrainSettings, maxLength: number): number {
  if (data.method !== 'sft' || settings.packing) return maxLength;
  return Math.min(maxLength, Math.max(longestOf(data.training), longestOf(data.validation)));
}

const adapterSize = (lora: LoraWeights): number =>
  [...lora.tensors.values()].reduce((n, { a, b }) => n + a.data.length + b.data.length, 0);

interface Prepared {
  readonly plan: TrainPlan;
  readonly options: TrainerOptions;
}

function describe(job: TrainJob, base: Base, lora: LoraWeights, data: TrainData, hyper: TrainingHyper): TrainPlan {
  const { settings } = job;
  return {
    baseModel: settings.base_model,
    method: data.method,
    parameters: parameterCount(base),
    trainedParameters: adapterSize(lora),
    examples: data.training.examples.length,
    validationExamples: data.validation.examples.length,
    tokens: data.training.lengths.reduce((a, b) => a + b, 0),
    longest: longestOf(data.training),
    maxLength: hyper.maxLength,
    cut: data.training.cut,
    left: data.training.left,
    epochs: hyper.epochs,
    batchSize: hyper.batchSize,
    totalSteps: stepsOf(data, hyper),
    learningRate: hyper.learningRate,
    threads: settings.threads,
    fourBit: settings.load_in_4bit,
  };
}

interface Start extends MethodParts {
  readonly lora: LoraWeights;
}

/** What training begins with: a fresh adapter, or the given one, which then is what preferences are measured against. */
async function startOf(
  settings: TrainSettings,
  method: Method,
  { config }: BaseModel,
  dimensions: readonly string[],
): Promise<Start> {
  const { adapter, seed } = settings;
  if (adapter !== undefined) {
    if (method === 'reward') return { reference: 'base', ...(await readRewardFolder(adapter)) };
    const lora = await readPeftFolder(adapter);
    return { lora, reference: lora };
  }
  const targets = settings.target_modules ?? LORA_TARGETS;
  const shape = { r: settings.lora_r, alpha: settings.lora_alpha, targets, dropout: 0 } as const;
  const head = method === 'reward' ? { head: initRewardHead(config, dimensions, seed) } : {};
  return { lora: initLora(config, shape, seed), reference: 'base', ...head };
}

async function prepare(job: TrainJob, saved: SavedRun | undefined): Promise<Prepared> {
  const { settings, folder, send, signal } = job;
  send({ kind: 'stage', text: `reading ${settings.dataset}` });
  const rows = await readRows(settings);
  const method = settings.method ?? fittingMethod(rows);
  send({ kind: 'stage', text: `loading ${settings.base_model}` });
  const base = await loadBase(settings.base_model, {
    fourBit: settings.load_in_4bit,
    onFile: (text) => send({ kind: 'stage', text }),
  });
  const { model, tokenizer, chat, eosTokenIds } = base;
  const { lora, ...parts } = await startOf(settings, method, model, rewardDimensions(rows.training));
  send({ kind: 'stage', text: 'writing examples as tokens' });
  const maxLength = Math.min(settings.max_length ?? DEFAULT_MAX_LENGTH, model.config.maxPositions);
  const asChat = chat !== undefined && !settings.plain_text ? { chat } : {};
  const writing: Writing = { tokenizer, eosTokenIds, maxLength, ...asChat };
  const data = encodeRows(rows, method, writing);
  const hyper = hyperOf(settings, method, rowLength(data, settings, maxLength));
  const plan = describe(job, base, lora, data, hyper);
  const common = {
    model,
    lora,
    hyper,
    threads: settings.threads,
    signal,
    ...(settings.memory === undefined ? {} : { memoryBudgetBytes: settings.memory }),
    ...(settings.executor === undefined ? {} : { executor: settings.executor }),
    checkpoint: {
      everySteps: Math.max(1, Math.ceil(plan.totalSteps / STATES_A_RUN)),
      save: (state: Uint8Array, step: number) => folder.writeState(state, step),
    },
    ...(saved === undefined ? {} : { resumeFrom: saved.state }),
  };
  return {
    plan: saved === undefined ? plan : { ...plan, resumeStep: saved.step },
    options: trainerOptions(data, common, plan.totalSteps, parts),
  };
}

async function fileDigest(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

async function manifestOf({ settings }: TrainJob, { plan, options }: Prepared, result: TrainResult) {
  return {
    ...result.manifest,
    node: process.version,
    method: plan.method,
    base_model: settings.base_model,
    dataset_sha256: await fileDigest(settings.dataset),
    hyper: options.hyper,
    steps: result.steps,
    ...(result.best === undefined ? {} : { best: result.best }),
    first_loss: result.firstLoss,
    last_loss: result.lastLoss,
    tokens: result.tokens,
    seconds: result.seconds,
    peak_rss_bytes: result.peakRssBytes,
  };
}

/**
 * Runs a job. @throws TrainingCancelled when stopped, DataError or EngineError when it cannot be done
 */
export async function runTrainJob(job: TrainJob): Promise<TrainOutcome> {
  const { settings, folder } = job;
  const saved = job.resume ? await folder.readState() : undefined;
  const prepared = await prepare(job, saved);
  const { plan, options } = prepared;
  job.send({ kind: 'plan', plan });
  if (!job.dryRun) await folder.writeSettings({ ...settings, method: plan.method });
  if (!job.dryRun) folder.beginMetrics(saved?.step ?? 0);
  job.send({ kind: 'stage', text: plan.method === 'sft' ? 'compiling' : 'compiling and reading the reference' });
  const trainer = await createTrainer({
    ...options,
    onProgress: (progress) => {
      folder.appendMetrics(progress);
      job.send({ kind: 'progress', progress });
    },
  });
  const { estimate, totalSteps } = trainer;
  const passes = (options.hyper.gradientAccumulation ?? 1) * (totalSteps - (saved?.step ?? 0));
  job.send({
    kind: 'estimate',
    estimate: {
      memoryBytes: estimate.memoryBytes,
      // As if every pass were of the greatest size: most are smaller, and the rest of a step makes up for some of it.
      seconds: estimate.secondsPerPass * passes,
      executorReason: trainer.executorReason,
    },
  });
  if (job.dryRun) return { kind: 'planned' };
  const result = await trainer.run();
  const { lora, rewardHead: head } = result;
  if (head === undefined) await writePeftFolder(folder.path, lora!, settings.base_model);
  else await writeRewardFolder(folder.path, { lora: lora!, head }, settings.base_model);
  await folder.writeManifest(await manifestOf(job, prepared, result));
  await folder.removeStates();
  const summary: TrainSummary = {
    steps: result.steps,
    ...(result.best === undefined ? {} : { best: result.best }),
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
