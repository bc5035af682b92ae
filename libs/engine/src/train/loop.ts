/** The training loop: passes, clipping, AdamW, progress, saved states. */
import { EngineError } from '../errors.ts';
import type {
  BaseModel,
  LoraWeights,
  RewardHead,
  Trainer,
  TrainerOptions,
  TrainingHyper,
  TrainResult,
} from '../types.ts';
import { type AdamW, clipFactor, globalNorm } from './adamw.ts';
import type { Executor } from './executor.ts';
import { engineManifest } from './manifest.ts';
import { planEpoch, type PlannedBatch, type PlanOptions } from './plan.ts';
import { rateAt } from './schedule.ts';
import { encodeState, type RunCounters } from './state.ts';
import { meanMetrics, type Metrics, type Reference, type Task } from './task.ts';
import { TrainingCancelled } from './trainingCancelled.ts';

function planOptions(task: Task, hyper: TrainingHyper): PlanOptions {
  const pack = hyper.packing === true && task.loss.kind === 'sft';
  return {
    lengths: task.lengths,
    batchSize: hyper.batchSize,
    seed: hyper.seed,
    ...(pack ? { packTo: hyper.maxLength } : {}),
  };
}

interface StepSummary {
  readonly loss: number;
  readonly gradNorm: number;
  readonly learningRate: number;
  readonly metrics: readonly Metrics[];
}

/** One run. new -> run() once -> result or error; the executor is closed either way. */
export class LoopTrainer implements Trainer {
  readonly totalSteps: number;
  readonly #options: TrainerOptions;
  readonly #model: BaseModel;
  readonly #lora: LoraWeights | undefined;
  readonly #head: RewardHead | undefined;
  readonly #executor: Executor;
  readonly #optimizer: AdamW;
  readonly #task: Task;
  readonly #evaluationTask: Task | undefined;
  readonly #references: readonly Reference[];
  readonly #print: string;
  readonly #epochSteps: readonly number[];
  readonly #counters: RunCounters;
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
      ...(this.#head === undefined ? {} : { rewardHead: this.#head }),
      steps: this.#counters.step,
      firstLoss: this.#counters.firstLoss,
      lastLoss: this.#counters.lastLoss,
      tokens: this.#tokens,
      seconds: (performance.now() - began) / 1000,
      peakRssBytes: process.resourceUsage().maxRSS * 1024,
      manifest: engineManifest(this.#options.threads ?? 1, this.#executor.choice),
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
    const references = this.#references.map((r) => r.values);
    const bytes = encodeState(this.#print, this.#optimizer, this.#counters, references);
    await checkpoint.save(bytes, this.#counters.step);
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
    const gradients = this.#executor.gradients;
    let kept: Float32Array[] | undefined;
    let loss = 0;
    const metrics: Metrics[] = [];
    for (const [i, batch] of passes.entries()) {
      const { feeds, tokens, measure } = await this.#task.pass(batch, divisor, this.#executor);
      const result = await this.#executor.gradientPass(feeds);
      loss += result.loss;
      if (measure !== undefined) metrics.push(measure(result));
      this.#tokens += tokens;
      if (passes.length === 1) break;
      if (i === 0) kept = gradients.map((g) => g.slice());
      else addInto(kept ?? [], gradients);
    }
    return { loss, metrics, ...this.#update(kept ?? gradients, loss) };
  }

  #update(gradients: readonly Float32Array[], loss: number): { gradNorm: number; learningRate: number } {
    const { hyper } = this.#options;
    const gradNorm = globalNorm(gradients);
    if (!Number.isFinite(loss + gradNorm)) {
      const where = `step ${this.#counters.step + 1}`;
      throw new EngineError('engine.train.diverged', `${where} has loss ${loss} and gradient norm ${gradNorm}`);
    }
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
      const { feeds } = await task.pass(batch, divisor, this.#executor);
      loss += (await this.#executor.lossPass(feeds)).loss;
    }
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

function addInto(sums: readonly Float32Array[], values: readonly Float32Array[]): void {
  sums.forEach((total, k) => {
    const value = values[k]!;
    for (let i = 0; i < total.length; i++) total[i] = total[i]! + value[i]!;
  });
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
  readonly print: string;
  readonly counters: RunCounters;
}
