/** The training loop: passes, clipping, AdamW, progress, saved states. */
import { EngineError } from '../errors.ts';
import type { Feeds } from '../graph/session.ts';
import type {
  BaseModel,
  LoraWeights,
  RewardHead,
  Trainer,
  TrainerOptions,
  TrainingEstimate,
  TrainingHyper,
  TrainResult,
} from '../types.ts';
import type { AdamW } from './adamw.ts';
import type { EarlyStopping } from './earlyStopping.ts';
import type { Executor } from './executor.ts';
import { engineManifest, estimateOf } from './manifest.ts';
import { planEpoch, type PlannedBatch, type PlanOptions } from './plan.ts';
import { RunControl } from './runControl.ts';
import { encodeState, type RunCounters } from './state.ts';
import { meanMetrics, type Metrics, type Pass, type Reference, type Task } from './task.ts';
import { type Update, Updater } from './updater.ts';

function planOptions(task: Task, hyper: TrainingHyper): PlanOptions {
  const pack = hyper.packing === true && task.loss.kind === 'sft';
  return {
    lengths: task.lengths,
    batchSize: hyper.batchSize,
    seed: hyper.seed,
    ...(pack ? { packTo: hyper.maxLength } : {}),
  };
}

interface StepSummary extends Update {
  readonly metrics: readonly Metrics[];
}

/** One run. new -> run() once -> result or error; the executor is closed either way. */
export class LoopTrainer implements Trainer {
  readonly totalSteps: number;
  readonly estimate: TrainingEstimate;
  readonly executorReason: string;
  readonly #options: TrainerOptions;
  readonly #model: BaseModel;
  readonly #lora: LoraWeights | undefined;
  readonly #head: RewardHead | undefined;
  readonly #executor: Executor;
  readonly #optimizer: AdamW;
  readonly #task: Task;
  readonly #evaluationTask: Task | undefined;
  readonly #references: readonly Reference[];
  readonly #stopping: EarlyStopping | undefined;
  readonly #print: () => string;
  readonly #epochSteps: readonly number[];
  readonly #counters: RunCounters;
  readonly #control: RunControl;
  readonly #updater: Updater;
  #tokens = 0;
  #started = false;

  constructor(parts: TrainerParts) {
    this.#options = parts.options;
    this.#model = parts.model;
    this.#lora = parts.lora;
    this.#head = parts.head;
    this.#executor = parts.executor;
    this.#optimizer = parts.optimizer;
    this.#task = parts.task;
    this.#evaluationTask = parts.evaluationTask;
    this.#references = parts.references;
    this.#stopping = parts.stopping;
    this.#print = parts.print;
    this.#counters = parts.counters;
    this.estimate = estimateOf(parts.executor.choice);
    this.executorReason = parts.executor.choice.reason;
    const { hyper } = parts.options;
    this.#epochSteps = Array.from({ length: hyper.epochs }, (_, epoch) =>
      Math.ceil(planEpoch(planOptions(parts.task, hyper), epoch).length / (hyper.gradientAccumulation ?? 1)),
    );
    this.totalSteps = this.#epochSteps.reduce((a, b) => a + b, 0);
    this.#updater = new Updater(parts.executor, parts.optimizer, hyper, this.totalSteps);
    this.#control = new RunControl({
      signal: parts.options.signal,
      checkpoint: parts.options.checkpoint,
      state: () => this.#state(),
      step: () => this.#counters.step,
    });
  }

  async run(): Promise<TrainResult> {
    if (this.#started) throw new EngineError('engine.train.already_run', 'a trainer runs once');
    this.#started = true;
    const began = performance.now();
    try {
      await this.#loop(began);
      this.#stopping?.restore();
      this.#control.settle();
    } catch (error) {
      this.#control.settle(error);
      throw error;
    } finally {
      await this.#executor.close();
    }
    const best = this.#stopping?.best;
    return {
      ...(this.#lora === undefined ? { weights: this.#model.weights } : { lora: this.#lora }),
      ...(this.#head === undefined ? {} : { rewardHead: this.#head }),
      steps: this.#counters.step,
      ...(best && { best: { step: best.step, evalLoss: best.loss } }),
      firstLoss: this.#counters.firstLoss,
      lastLoss: this.#counters.lastLoss,
      tokens: this.#tokens,
      seconds: (performance.now() - began) / 1000,
      peakRssBytes: process.resourceUsage().maxRSS * 1024,
      estimate: this.estimate,
      manifest: engineManifest(this.#options.threads ?? 1, this.#executor.choice),
    };
  }

  async pause(): Promise<Uint8Array> {
    return this.#control.pause();
  }

  async #loop(began: number): Promise<void> {
    const { hyper } = this.#options;
    const accumulation = hyper.gradientAccumulation ?? 1;
    let first = 0;
    for (const [epoch, steps] of this.#epochSteps.entries()) {
      const done = this.#counters.step;
      if (done < first + steps) {
        const plan = planEpoch(planOptions(this.#task, hyper), epoch);
        for (let s = done - first; s < steps; s++) {
          if (this.#stopping?.exhausted === true) return;
          await this.#control.stopPoint();
          const summary = await this.#step(plan.slice(s * accumulation, (s + 1) * accumulation));
          const evalLoss = await this.#evaluate();
          this.#report(summary, epoch + (s + 1) / steps, began, evalLoss);
          await this.#control.stepDone();
        }
      }
      first += steps;
    }
  }

  #state(): Uint8Array {
    const references = this.#references.map((r) => r.values);
    return encodeState(this.#print(), this.#optimizer, this.#counters, references, this.#stopping);
  }

  /** What the losses of one step's passes are divided by. */
  #divisor(passes: readonly PlannedBatch[]): number {
    const { shares } = this.#task;
    if (this.#options.hyper.lossDivisor === 'constant' && this.#task.loss.kind === 'sft') {
      const perEpoch = shares.reduce((a, b) => a + b, 0);
      return (perEpoch * this.#options.hyper.epochs) / this.totalSteps;
    }
    const total = passes.flat(2).reduce((n, index) => n + shares[index]!, 0);
    return total > 0 ? total : 1;
  }

  async #step(passes: readonly PlannedBatch[]): Promise<StepSummary> {
    const divisor = this.#divisor(passes);
    const metrics: Metrics[] = [];
    let measure: Pass['measure'];
    const feedsOf = async (i: number): Promise<Feeds> => {
      const pass = await this.#task.pass(passes[i]!, divisor, this.#executor);
      measure = pass.measure;
      this.#tokens += pass.tokens;
      return pass.feeds;
    };
    const update = await this.#updater.step(this.#counters.step, passes.length, feedsOf, (result) => {
      if (measure !== undefined) metrics.push(measure(result));
    });
    this.#counters.step++;
    if (this.#counters.step === 1) this.#counters.firstLoss = update.loss;
    this.#counters.lastLoss = update.loss;
    return { ...update, metrics };
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
      const { feeds } = await task.pass(batch, divisor, this.#executor);
      loss += (await this.#executor.lossPass(feeds)).loss;
    }
    this.#stopping?.observe(loss, step);
    return loss;
  }

  #report(summary: StepSummary, epoch: number, began: number, evalLoss: number | undefined): void {
    this.#options.onProgress?.({
      step: this.#counters.step,
      totalSteps: this.totalSteps,
      epoch,
      loss: summary.loss,
      learningRate: summary.learningRate,
      gradNorm: summary.gradNorm,
      tokensPerSecond: this.#tokens / Math.max(1e-3, (performance.now() - began) / 1000),
      ...meanMetrics(summary.metrics),
      ...(evalLoss === undefined ? {} : { evalLoss }),
    });
  }
}

export interface TrainerParts {
  readonly options: TrainerOptions;
  readonly model: BaseModel;
  readonly lora: LoraWeights | undefined;
  readonly head: RewardHead | undefined;
  readonly executor: Executor;
  readonly optimizer: AdamW;
  readonly task: Task;
  readonly evaluationTask: Task | undefined;
  readonly references: readonly Reference[];
  readonly stopping: EarlyStopping | undefined;
  /** The fingerprint of a saved state: costs a pass over data and weights, so it is made when first asked for. */
  readonly print: () => string;
  readonly counters: RunCounters;
}
