import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { initLora } from '@tuneloop/engine/adapters/lora';
import { PEFT_CONFIG_FILE, PEFT_WEIGHTS_FILE, readPeftFolder, writePeftFolder } from '@tuneloop/engine/adapters/peft';
import { EngineError } from '@tuneloop/engine/errors';
import { createTrainer } from '@tuneloop/engine/train/trainer';
import type { LoraWeights, Trainer, TrainerOptions, TrainProgress } from '@tuneloop/engine/types';
import { type Base, baseFingerprint, loadBase } from './baseModel.ts';
import { encodeDpo, encodeSft, readRows } from './examples.ts';
import type { TrainedMessage, TrainTask } from './messages.ts';

/** What the process around the run does for it. */
export interface TrainHooks {
  readonly signal: AbortSignal;
  prepared(examples: number, skippedTooLong: number): void;
  progress(progress: TrainProgress): void;
  /** Hands the state's file over and waits until it is stored. */
  saveState(file: string, step: number): Promise<void>;
}

interface Prepared {
  readonly trainer: Trainer;
  readonly examples: number;
  readonly skippedTooLong: number;
  readonly trainedTokens: number;
}

/** One training run from files to files. @throws TrainingCancelled, EngineError */
export async function train(task: TrainTask, hooks: TrainHooks): Promise<TrainedMessage> {
  const base = await loadBase(task.baseFolder);
  const prepared = await prepare(task, base, hooks);
  hooks.prepared(prepared.examples, prepared.skippedTooLong);
  const result = await prepared.trainer.run();
  if (!result.lora) throw new Error('an adapter run gave no adapter');
  const folder = join(task.folder, 'adapter');
  await writePeftFolder(folder, result.lora, task.baseModel);
  return {
    kind: 'trained',
    configFile: join(folder, PEFT_CONFIG_FILE),
    weightsFile: join(folder, PEFT_WEIGHTS_FILE),
    steps: result.steps,
    firstLoss: result.firstLoss,
    lastLoss: result.lastLoss,
    examples: prepared.examples,
    skippedTooLong: prepared.skippedTooLong,
    trainedTokens: prepared.trainedTokens,
    tokensPerSecond: result.tokens / Math.max(result.seconds, 1e-3),
    seconds: result.seconds,
    peakRssBytes: result.peakRssBytes,
    manifest: {
      ...result.manifest,
      base_model_sha256: await baseFingerprint(task.baseFolder),
      node: process.version,
      settings: task.settings,
    },
  };
}

async function prepare(task: TrainTask, base: Base, hooks: TrainHooks): Promise<Prepared> {
  const { hyper, lora: shape } = task.settings;
  const start = task.startFrom === null ? undefined : await readPeftFolder(task.startFrom);
  const lora: LoraWeights = start ?? initLora(base.model.config, { ...shape, dropout: 0 }, hyper.seed);
  const trainRows = await readRows(task.trainFile);
  const validationRows = await readRows(task.validationFile);
  const common = {
    model: base.model,
    lora,
    hyper,
    threads: task.threads,
    signal: hooks.signal,
    onProgress: (progress: TrainProgress) => hooks.progress(progress),
    checkpoint: { everySteps: task.stateEverySteps, save: stateSaver(task, hooks) },
    ...(task.stateFile === null ? {} : { resumeFrom: await readFile(task.stateFile) }),
  };
  let options: TrainerOptions;
  let encoded: { skippedTooLong: number; tokens: number };
  if (task.method === 'dpo') {
    const data = encodeDpo(trainRows, base.chat, hyper.maxLength);
    const validation = encodeDpo(validationRows, base.chat, hyper.maxLength).examples;
    encoded = data;
    options = {
      ...common,
      task: 'dpo',
      data: data.examples,
      reference: task.reference === 'start' && start ? start : 'base',
      ...evaluation(validation, data.examples.length, hyper.batchSize),
    };
  } else {
    const data = encodeSft(trainRows, base.chat, hyper.maxLength);
    const validation = encodeSft(validationRows, base.chat, hyper.maxLength).examples;
    encoded = data;
    options = {
      ...common,
      task: 'sft',
      data: data.examples,
      ...evaluation(validation, data.examples.length, hyper.batchSize),
    };
  }
  const examples = options.data.length;
  if (examples === 0) {
    throw new EngineError(
      'trainer.dataset.empty',
      trainRows.length === 0
        ? 'the train split of the dataset is empty'
        : `all ${trainRows.length} examples are longer than ${hyper.maxLength} tokens; raise max_length or shorten them`,
    );
  }
  const trainer = await createTrainer(options);
  return {
    trainer,
    examples,
    skippedTooLong: encoded.skippedTooLong,
    trainedTokens: encoded.tokens * hyper.epochs,
  };
}

/** The loss on the validation split, once an epoch. */
function evaluation<T>(data: readonly T[], examples: number, batchSize: number) {
  if (data.length === 0) return {};
  return { evaluation: { data, everySteps: Math.max(1, Math.ceil(examples / batchSize)) } };
}

function stateSaver(task: TrainTask, hooks: TrainHooks): (state: Uint8Array, step: number) => Promise<void> {
  let savedAt = performance.now();
  return async (state, step) => {
    // A cancelled run keeps all that it has done; a running one does not write more often than is of use.
    if (!hooks.signal.aborted && performance.now() - savedAt < task.stateMinSeconds * 1_000) return;
    const file = join(task.folder, `state-${step}.bin`);
    await writeFile(`${file}.partial`, state);
    await rename(`${file}.partial`, file);
    await hooks.saveState(file, step);
    savedAt = performance.now();
  };
}
