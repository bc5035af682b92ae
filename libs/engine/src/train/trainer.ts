/** Entry point of training: what a run needs is checked, copied, compiled and handed to the loop. */
import { checkLora } from '../adapters/lora.ts';
import { EngineError } from '../errors.ts';
import { checkRewardHead, initRewardHead } from '../adapters/rewardHead.ts';
import type {
  DpoTrainerOptions,
  KtoTrainerOptions,
  RewardHead,
  RewardTrainerOptions,
  TokenIds,
  Trainer,
  TrainerOptions,
  TrainingHyper,
} from '../types.ts';
import { AdamW } from './adamw.ts';
import { checkEarlyStopping, checkHyper, checkTokens } from './checks.ts';
import { copyLora, copyWeights } from './copies.ts';
import { createExecutor, executorWishes } from './createExecutor.ts';
import { EarlyStopping } from './earlyStopping.ts';
import { LoopTrainer } from './loop.ts';
import { createScorer } from './scorer.ts';
import { executorStamp, fingerprint, restoreState, type RunCounters, weightArrays } from './state.ts';
import type { Reference, Task } from './task.ts';
import { createTasks } from './tasks.ts';
import { TrainingCancelled } from './trainingCancelled.ts';

/** The head that a reward run will train: a copy of the given one, or a fresh one. */
function trainedHead({ model, head, hyper }: RewardTrainerOptions): RewardHead {
  if (head === undefined) return initRewardHead(model.config, ['reward'], hyper.seed);
  checkRewardHead(model.config, head);
  return { dimensions: head.dimensions, weight: { dims: head.weight.dims, data: head.weight.data.slice() } };
}

/** Bound of a row's length: packed rows reach `maxLength`, a pair's row holds its prompt and both texts. */
function longestRow(hyper: TrainingHyper, ...tasks: (Task | undefined)[]): number {
  let longest = hyper.maxLength;
  for (const task of tasks) {
    for (const length of task?.lengths ?? []) longest = Math.max(longest, length);
  }
  return longest;
}

/** Fills every task's reference log-probabilities, all of them scored together. */
async function computeReferences(
  options: DpoTrainerOptions | KtoTrainerOptions,
  references: readonly Reference[],
): Promise<void> {
  const scorer = await createScorer({ model: options.model, threads: options.threads ?? 1 });
  try {
    const lora = options.reference === 'base' ? undefined : options.reference;
    const scoring = options.signal === undefined ? {} : { signal: options.signal };
    const logProbs = await scorer.scoreRows(
      references.flatMap(({ rows }) => rows),
      lora,
      scoring,
    );
    let done = 0;
    for (const reference of references) {
      reference.fill(logProbs.slice(done, done + reference.rows.length));
      done += reference.rows.length;
    }
  } finally {
    await scorer.close();
  }
}

/** What a state's numbers depend on and the state does not hold: the examples and, under an adapter, the frozen base. */
function* fixedArrays(options: TrainerOptions, task: Task): Generator<TokenIds | Float32Array | Uint8Array> {
  yield* task.tokenArrays();
  if (options.lora !== undefined) yield* weightArrays(options.model);
  for (const { codes, scales, mins } of options.model.quantized?.values() ?? []) {
    yield new Int32Array(codes.slice().buffer);
    yield scales;
    if (mins !== undefined) yield mins;
  }
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
  checkEarlyStopping(options.hyper.earlyStopping, (options.evaluation?.data.length ?? 0) > 0);
  if (options.lora !== undefined) checkLora(options.model.config, options.lora);
  if ('reference' in options && options.reference !== 'base') checkLora(options.model.config, options.reference);
  if (options.lora === undefined && options.model.quantized !== undefined) {
    throw new EngineError(
      'engine.train.quantized_base',
      'a model in 4 bits is frozen: give `lora` to train an adapter on it, or train the model as it was before quantizeModel',
    );
  }
  const head = options.task === 'reward' ? trainedHead(options) : undefined;
  const lora = options.lora === undefined ? undefined : copyLora(options.lora);
  const { config } = options.model;
  const model = lora === undefined ? { config, weights: copyWeights(options.model.weights) } : options.model;
  const { task, evaluationTask } = createTasks(options, head);
  const references = [task, evaluationTask].flatMap((t) => t?.reference ?? []);
  const rowLength = longestRow(options.hyper, task, evaluationTask);
  const executor = await createExecutor({
    model,
    loss: task.loss,
    rowLength,
    passTokens: rowLength * options.hyper.batchSize,
    threads: options.threads ?? 1,
    ...(lora === undefined ? {} : { lora }),
    ...(head === undefined ? {} : { rewardHead: head.weight }),
    ...executorWishes(options),
  });
  try {
    const optimizer = new AdamW(executor.parameters, {
      betas: options.hyper.betas ?? [0.9, 0.999],
      eps: options.hyper.eps ?? 1e-8,
      weightDecay: options.hyper.weightDecay ?? 0,
    });
    const settings = {
      task: options.task,
      hyper: options.hyper,
      config,
      lora: lora?.config,
      loss: task.loss,
      head: head?.dimensions,
    };
    let printed: string | undefined;
    const print = (): string =>
      (printed ??= executorStamp(executor.choice) + fingerprint(settings, fixedArrays(options, task)));
    const { earlyStopping } = options.hyper;
    const stopping = earlyStopping && new EarlyStopping(earlyStopping, executor.parameters);
    let counters: RunCounters = { step: 0, firstLoss: Number.NaN, lastLoss: Number.NaN };
    if (options.resumeFrom !== undefined) {
      counters = restoreState(
        options.resumeFrom,
        print(),
        optimizer,
        references.map((r) => r.values),
        stopping,
      );
    } else if ('reference' in options) {
      await computeReferences(options, references);
    }
    return new LoopTrainer({
      options,
      model,
      lora,
      head,
      executor,
      optimizer,
      task,
      evaluationTask,
      references,
      stopping,
      print,
      counters,
    });
  } catch (error) {
    await executor.close();
    throw options.signal?.aborted === true ? new TrainingCancelled(0, error) : error;
  }
}
