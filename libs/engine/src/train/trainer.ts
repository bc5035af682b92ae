/** The training loop: plan, passes, clipping, AdamW, progress, saved states. */
import { EngineError } from '../errors.ts';
import type {
  BaseModel,
  DpoTrainerOptions,
  LoraWeights,
  TokenIds,
  Trainer,
  TrainerOptions,
  TrainingHyper,
  TrainResult,
  WeightMap,
} from '../types.ts';
import { AdamW, clipFactor, globalNorm } from './adamw.ts';
import { createExecutor, type Executor } from './executor.ts';
import { engineManifest } from './manifest.ts';
import { planEpoch, type PlannedBatch, type PlanOptions } from './plan.ts';
import { rateAt } from './schedule.ts';
import { createScorer } from './scorer.ts';
import { encodeState, fingerprint, restoreState, type RunCounters } from './state.ts';
import { checkPairs, dpoLossSpec, dpoTask, pairDifference, pairRow, sftTask, type Task } from './task.ts';

/** The run was cancelled; its state was saved if the options asked for checkpoints. */
export class TrainingCancelled extends EngineError {
  readonly step: number;

  constructor(step: number, cause: unknown) {
    super('engine.train.cancelled', `training was cancelled after step ${step}`, { cause });
    this.name = 'TrainingCancelled';
    this.step = step;
  }
}

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

function checkHyper(hyper: TrainingHyper, maxPositions: number): void {
  if (hyper.maxLength > maxPositions) {
    throw new EngineError(
      'engine.train.too_long',
      `a length of ${hyper.maxLength} exceeds the model's ${maxPositions} positions`,
    );
  }
  const whole = { epochs: hyper.epochs, batchSize: hyper.batchSize, maxLength: hyper.maxLength };
  for (const [name, value] of Object.entries({ ...whole, gradientAccumulation: hyper.gradientAccumulation ?? 1 })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new EngineError('engine.train.bad_hyper', `${name} must be an integer of at least 1, found ${value}`);
    }
  }
  if (!(hyper.learningRate >= 0)) {
    throw new EngineError('engine.train.bad_hyper', `learningRate must not be negative, found ${hyper.learningRate}`);
  }
}

/** Bound of a row's length: packed rows reach `maxLength`, a pair's row holds its prompt and both texts. */
function longestRow(hyper: TrainingHyper, ...tasks: (Task | undefined)[]): number {
  let longest = hyper.maxLength;
  for (const task of tasks) {
    for (const length of task?.lengths ?? []) longest = Math.max(longest, length);
  }
  return longest;
}

function planOptions(task: Task, hyper: TrainingHyper): PlanOptions {
  const pack = hyper.packing === true && task.loss.kind === 'sft';
  return {
    lengths: task.lengths,
    batchSize: hyper.batchSize,
    seed: hyper.seed,
    ...(pack ? { packTo: hyper.maxLength } : {}),
  };
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
    return Float32Array.from(data, (example, i) => pairDifference(example, logProbs[i] as Float32Array));
  } finally {
    await scorer.close();
  }
}

interface StepSummary {
  readonly loss: number;
  readonly gradNorm: number;
  readonly learningRate: number;
  readonly margins: readonly number[];
}

/** One run. new -> run() once -> result or error; the executor is closed either way. */
class LoopTrainer implements Trainer {
  readonly totalSteps: number;
  readonly #options: TrainerOptions;
  readonly #model: BaseModel;
  readonly #lora: LoraWeights | undefined;
  readonly #executor: Executor;
  readonly #optimizer: AdamW;
  readonly #task: Task;
  readonly #evaluationTask: Task | undefined;
  readonly #reference: Float32Array;
  readonly #print: string;
  readonly #epochSteps: readonly number[];
  readonly #counters: RunCounters;
  #tokens = 0;
  #started = false;

  constructor(parts: TrainerParts) {
    this.#options = parts.options;
    this.#model = parts.model;
    this.#lora = parts.lora;
    this.#executor = parts.executor;
    this.#optimizer = parts.optimizer;
    this.#task = parts.task;
    this.#evaluationTask = parts.evaluationTask;
    this.#reference = parts.reference;
    this.#print = parts.print;
    this.#counters = parts.counters;
    const { hyper } = parts.options;
    this.#epochSteps = Array.from({ length: hyper.epochs }, (_, epoch) =>
      Math.ceil(planEpoch(planOptions(parts.task, hyper), epoch).length / (hyper.gradientAccumulation ?? 1)),
    );
    this.totalSteps = this.#epochSteps.reduce((a, b) => a + b, 0);
  }

  async run(): Promise<TrainResult> {
    if (this.#started) throw new EngineError('engine.train.already_run', 'a trainer runs once');
    this.#started = true;
    const began = performance.now();
    try {
      await this.#loop(began);
    } finally {
      await this.#executor.close();
    }
    return {
      ...(this.#lora === undefined ? { weights: this.#model.weights } : { lora: this.#lora }),
      steps: this.#counters.step,
      firstLoss: this.#counters.firstLoss,
      lastLoss: this.#counters.lastLoss,
      tokens: this.#tokens,
      seconds: (performance.now() - began) / 1000,
      peakRssBytes: process.resourceUsage().maxRSS * 1024,
      manifest: engineManifest(this.#options.threads ?? 1, this.#executor.reason),
    };
  }

  async #loop(began: number): Promise<void> {
    const { hyper, checkpoint } = this.#options;
    const accumulation = hyper.gradientAccumulation ?? 1;
    let first = 0;
    for (const [epoch, steps] of this.#epochSteps.entries()) {
      const done = this.#counters.step;
      if (done < first + steps) {
        const plan = planEpoch(planOptions(this.#task, hyper), epoch);
        for (let s = done - first; s < steps; s++) {
          await this.#cancelPoint();
          const summary = await this.#step(plan.slice(s * accumulation, (s + 1) * accumulation));
          const evalLoss = await this.#evaluate();
          this.#report(summary, epoch + (s + 1) / steps, began, evalLoss);
          if (checkpoint !== undefined && this.#counters.step % checkpoint.everySteps === 0) await this.#save();
        }
      }
      first += steps;
    }
  }

  /** Gives signals a turn (a pass blocks the thread), then stops if one asked for it. */
  async #cancelPoint(): Promise<void> {
    await new Promise(setImmediate);
    const signal = this.#options.signal;
    if (signal?.aborted !== true) return;
    if (this.#counters.step > 0) await this.#save();
    throw new TrainingCancelled(this.#counters.step, signal.reason);
  }

  async #save(): Promise<void> {
    const { checkpoint } = this.#options;
    if (checkpoint === undefined) return;
    const bytes = encodeState(this.#print, this.#optimizer, this.#counters, this.#reference);
    await checkpoint.save(bytes, this.#counters.step);
  }

  /** What the losses of one step's passes are divided by. */
  #divisor(passes: readonly PlannedBatch[]): number {
    const { shares } = this.#task;
    if (this.#options.hyper.lossDivisor === 'constant' && this.#task.loss.kind === 'sft') {
      const perEpoch = shares.reduce((a, b) => a + b, 0);
      return (perEpoch * this.#options.hyper.epochs) / this.totalSteps;
    }
    const total = passes.flat(2).reduce((n, index) => n + (shares[index] as number), 0);
    return total > 0 ? total : 1;
  }

  async #step(passes: readonly PlannedBatch[]): Promise<StepSummary> {
    const divisor = this.#divisor(passes);
    const gradients = this.#executor.gradients;
    let kept: Float32Array[] | undefined;
    let loss = 0;
    const margins: number[] = [];
    for (const [i, batch] of passes.entries()) {
      const { feeds, tokens } = this.#task.pass(batch, divisor, this.#executor.chunks);
      const result = await this.#executor.gradientPass(feeds);
      loss += result.loss;
      margins.push(...(result.margins ?? []));
      this.#tokens += tokens;
      if (passes.length === 1) break;
      if (i === 0) kept = gradients.map((g) => g.slice());
      else addInto(kept ?? [], gradients);
    }
    if (!Number.isFinite(loss)) {
      throw new EngineError('engine.train.diverged', `the loss of step ${this.#counters.step + 1} is ${loss}`);
    }
    return { loss, margins, ...this.#update(kept ?? gradients, loss) };
  }

  #update(gradients: readonly Float32Array[], loss: number): { gradNorm: number; learningRate: number } {
    const { hyper } = this.#options;
    const gradNorm = globalNorm(gradients);
    const factor = clipFactor(gradNorm, hyper.maxGradNorm ?? 1);
    const schedule = {
      kind: hyper.schedule ?? 'cosine',
      totalSteps: this.totalSteps,
      warmupRatio: hyper.warmupRatio ?? 0,
      finalRatio: hyper.finalRatio ?? 0,
    };
    const learningRate = hyper.learningRate * rateAt(schedule, this.#counters.step);
    this.#counters.step++;
    this.#optimizer.update(gradients, this.#counters.step, learningRate, factor);
    if (this.#counters.step === 1) this.#counters.firstLoss = loss;
    this.#counters.lastLoss = loss;
    return { gradNorm, learningRate };
  }

  /** Mean loss over the evaluation data, every so many steps and at the end. */
  async #evaluate(): Promise<number | undefined> {
    const evaluation = this.#options.evaluation;
    const task = this.#evaluationTask;
    if (evaluation === undefined || task === undefined) return undefined;
    const { step } = this.#counters;
    if (step % evaluation.everySteps !== 0 && step !== this.totalSteps) return undefined;
    const divisor = task.shares.reduce((a, b) => a + b, 0);
    let loss = 0;
    for (const batch of planEpoch({ ...planOptions(task, this.#options.hyper), seed: 0 }, 0)) {
      loss += (await this.#executor.lossPass(task.pass(batch, divisor, this.#executor.chunks).feeds)).loss;
    }
    return loss;
  }

  #report(summary: StepSummary, epoch: number, began: number, evalLoss: number | undefined): void {
    const { margins } = summary;
    const share = (f: (m: number) => number): number => margins.reduce((n, m) => n + f(m), 0) / margins.length;
    this.#options.onProgress?.({
      step: this.#counters.step,
      totalSteps: this.totalSteps,
      epoch,
      loss: summary.loss,
      learningRate: summary.learningRate,
      gradNorm: summary.gradNorm,
      tokensPerSecond: this.#tokens / Math.max(1e-3, (performance.now() - began) / 1000),
      ...(margins.length > 0 ? { rewardMargin: share((m) => m), accuracy: share((m) => (m > 0 ? 1 : 0)) } : {}),
      ...(evalLoss === undefined ? {} : { evalLoss }),
    });
  }
}

function addInto(sums: readonly Float32Array[], values: readonly Float32Array[]): void {
  sums.forEach((total, k) => {
    const value = values[k] as Float32Array;
    for (let i = 0; i < total.length; i++) total[i] = (total[i] as number) + (value[i] as number);
  });
}

interface TrainerParts {
  readonly options: TrainerOptions;
  readonly model: BaseModel;
  readonly lora: LoraWeights | undefined;
  readonly executor: Executor;
  readonly optimizer: AdamW;
  readonly task: Task;
  readonly evaluationTask: Task | undefined;
  readonly reference: Float32Array;
  readonly print: string;
  readonly counters: RunCounters;
}

/** Ids outside the vocabulary would fail inside the graph without a name. */
function checkTokens(options: TrainerOptions): void {
  const { vocabSize } = options.model.config;
  const arrays: TokenIds[] =
    options.task === 'sft'
      ? options.data.map((e) => e.ids)
      : options.data.flatMap((e) => [e.prompt, e.chosen, e.rejected]);
  for (const ids of arrays) {
    for (let t = 0; t < ids.length; t++) {
      const id = ids[t];
      if (id === undefined || !(id >= 0 && id < vocabSize)) {
        throw new EngineError('engine.train.bad_token', `token id ${id} is outside the vocabulary of ${vocabSize}`);
      }
    }
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
 * @throws EngineError `engine.train.*` for options that cannot work, TrainingCancelled from `run`
 */
export async function createTrainer(options: TrainerOptions): Promise<Trainer> {
  checkHyper(options.hyper, options.model.config.maxPositions);
  checkTokens(options);
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
    const print = resumable ? fingerprint(settings, task.tokenArrays()) : '';
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
    throw error;
  }
}
