/** Entry point of training: what a run needs is checked, copied, compiled and handed to the loop. */
import { checkLora } from '../adapters/lora.ts';
import { EngineError } from '../errors.ts';
import type {
  DpoTrainerOptions,
  LoraWeights,
  TokenIds,
  Trainer,
  TrainerOptions,
  TrainingHyper,
  WeightMap,
} from '../types.ts';
import { AdamW } from './adamw.ts';
import { checkHyper, checkTokens } from './checks.ts';
import { createExecutor } from './executor.ts';
import { LoopTrainer } from './loop.ts';
import { createScorer } from './scorer.ts';
import { fingerprint, restoreState, type RunCounters } from './state.ts';
import { checkPairs, dpoLossSpec, dpoTask, pairDifference, pairRow, sftTask, type Task } from './task.ts';
import { TrainingCancelled } from './trainingCancelled.ts';

function copyLora(lora: LoraWeights): LoraWeights {
  const tensors = new Map(
    [...lora.tensors].map(([module, { a, b }]) => [
      module,
      { a: { dims: a.dims, data: a.data.slice() }, b: { dims: b.dims, data: b.data.slice() } },
    ]),
  );
  return { config: lora.config, tensors };
}

function copyWeights(weights: WeightMap): WeightMap {
  return new Map([...weights].map(([name, t]) => [name, { dims: t.dims, data: t.data.slice() }]));
}

/** Bound of a row's length: packed rows reach `maxLength`, a pair's row holds its prompt and both texts. */
function longestRow(hyper: TrainingHyper, ...tasks: (Task | undefined)[]): number {
  let longest = hyper.maxLength;
  for (const task of tasks) {
    for (const length of task?.lengths ?? []) longest = Math.max(longest, length);
  }
  return longest;
}

/** log p(chosen) - log p(rejected) of each pair under the reference. */
async function referenceDifferences(
  options: DpoTrainerOptions,
  data: DpoTrainerOptions['data'],
): Promise<Float32Array> {
  const scorer = await createScorer({ model: options.model, threads: options.threads ?? 1 });
  try {
    const lora = options.reference === 'base' ? undefined : options.reference;
    const scoring = options.signal === undefined ? {} : { signal: options.signal };
    const logProbs = await scorer.scoreRows(
      data.map((example) => pairRow(example, 0)),
      lora,
      scoring,
    );
    return Float32Array.from(data, (example, i) => pairDifference(example, logProbs[i]!));
  } finally {
    await scorer.close();
  }
}

/** What a state's numbers depend on and the state does not hold: the examples and, under an adapter, the frozen base. */
function* fixedArrays(options: TrainerOptions, task: Task): Generator<TokenIds | Float32Array> {
  yield* task.tokenArrays();
  if (options.lora === undefined) return;
  for (const { data } of options.model.weights.values()) yield data;
  for (const { codes, scales, mins } of options.model.quantized?.values() ?? []) {
    yield new Int32Array(codes.slice().buffer);
    yield scales;
    if (mins !== undefined) yield mins;
  }
}

interface Tasks {
  readonly task: Task;
  readonly evaluationTask: Task | undefined;
  /** DPO: reference differences of the training pairs, then of the evaluation pairs; filled before the run. */
  readonly reference: Float32Array;
}

function createTasks(options: TrainerOptions): Tasks {
  if (options.data.length === 0) throw new EngineError('engine.train.no_data', 'there is nothing to train on');
  const { hyper } = options;
  if (options.task === 'sft') {
    const evaluationTask = options.evaluation === undefined ? undefined : sftTask(options.evaluation.data, hyper);
    return { task: sftTask(options.data, hyper), evaluationTask, reference: new Float32Array(0) };
  }
  const evaluation = options.evaluation?.data ?? [];
  checkPairs(options.data, hyper.maxLength);
  checkPairs(evaluation, hyper.maxLength);
  const reference = new Float32Array(options.data.length + evaluation.length);
  const loss = dpoLossSpec(options.data, hyper.dpo);
  const task = dpoTask(options.data, loss, reference.subarray(0, options.data.length));
  const evaluationTask =
    evaluation.length === 0 ? undefined : dpoTask(evaluation, loss, reference.subarray(options.data.length));
  return { task, evaluationTask, reference };
}

/**
 * Prepares a run: checks the options, copies what will be trained, computes the DPO reference and compiles the graph.
 * Call it and `run` in a worker thread or child process: passes block the thread.
 *
 * @throws EngineError `engine.train.*`, `engine.adapter.*` or `engine.weights.*` for options that cannot work; TrainingCancelled, also from `run`
 */
export async function createTrainer(options: TrainerOptions): Promise<Trainer> {
  checkHyper(options.hyper, options.model.config.maxPositions);
  checkTokens(options);
  if (options.lora !== undefined) checkLora(options.model.config, options.lora);
  if (options.task === 'dpo' && options.reference !== 'base') checkLora(options.model.config, options.reference);
  if (options.lora === undefined && options.model.quantized !== undefined) {
    throw new EngineError(
      'engine.train.quantized_base',
      'a model in 4 bits is frozen: give `lora` to train an adapter on it, or train the model as it was before quantizeModel',
    );
  }
  const lora = options.lora === undefined ? undefined : copyLora(options.lora);
  const { config } = options.model;
  const model = lora === undefined ? { config, weights: copyWeights(options.model.weights) } : options.model;
  const { task, evaluationTask, reference } = createTasks(options);
  const rowLength = longestRow(options.hyper, task, evaluationTask);
  const executor = await createExecutor({
    model,
    loss: task.loss,
    rowLength,
    passTokens: rowLength * options.hyper.batchSize,
    threads: options.threads ?? 1,
    ...(lora === undefined ? {} : { lora }),
  });
  try {
    const optimizer = new AdamW(executor.parameters, {
      betas: options.hyper.betas ?? [0.9, 0.999],
      eps: options.hyper.eps ?? 1e-8,
      weightDecay: options.hyper.weightDecay ?? 0,
    });
    const resumable = options.checkpoint !== undefined || options.resumeFrom !== undefined;
    const settings = { task: options.task, hyper: options.hyper, config, lora: lora?.config, loss: task.loss };
    const print = resumable ? fingerprint(settings, fixedArrays(options, task)) : '';
    let counters: RunCounters = { step: 0, firstLoss: Number.NaN, lastLoss: Number.NaN };
    if (options.resumeFrom !== undefined) {
      const state = restoreState(options.resumeFrom, print, optimizer);
      counters = state.counters;
      reference.set(state.reference);
    } else if (options.task === 'dpo') {
      reference.set(await referenceDifferences(options, [...options.data, ...(options.evaluation?.data ?? [])]));
    }
    return new LoopTrainer({
      options,
      model,
      lora,
      executor,
      optimizer,
      task,
      evaluationTask,
      reference,
      print,
      counters,
    });
  } catch (error) {
    await executor.close();
    throw options.signal?.aborted === true ? new TrainingCancelled(0, error) : error;
  }
}
