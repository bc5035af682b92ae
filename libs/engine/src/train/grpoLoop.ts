/** The GRPO loop: sample, judge, learn, report, save. */
import { EngineError } from '../errors.ts';
import type { LoraWeights, Trainer, TrainingEstimate, TrainResult } from '../types.ts';
import type { AdamW } from './adamw.ts';
import { GRPO_DEFAULTS } from './defaults.ts';
import type { EarlyStopping } from './earlyStopping.ts';
import type { Executor } from './executor.ts';
import {
  deviation,
  groupAdvantages,
  grpoPass,
  type PassFigures,
  passFigures,
  type PassText,
  sampledRow,
  splitByText,
  tokenShares,
} from './grpo.ts';
import { groupSizeOf, promptsPerStepOf, type RolloutSource } from './grpoRollouts.ts';
import type { GrpoTrainerOptions, Rollout } from './grpoTypes.ts';
import type { GrpoLoss } from '../models/grpoLoss.ts';
import { engineManifest, estimateOf } from './manifest.ts';
import { RunControl } from './runControl.ts';
import type { RowScorer } from './scorer.ts';
import { encodeState, type RunCounters } from './state.ts';
import { mean } from './task.ts';
import { type Update, Updater } from './updater.ts';

export interface GrpoParts {
  readonly options: GrpoTrainerOptions;
  readonly lora: LoraWeights;
  readonly loss: GrpoLoss;
  readonly executor: Executor;
  readonly optimizer: AdamW;
  readonly rollouts: RolloutSource;
  /** With a KL term. */
  readonly scorer: RowScorer | undefined;
  readonly print: () => string;
  readonly counters: RunCounters;
  /** Watches minus the held-out reward. */
  readonly stopping: EarlyStopping | undefined;
}

interface Learned extends Update {
  readonly figures: PassFigures;
}

/** Completions of equal rewards in their groups have nothing to teach. */
const NOTHING: Learned = { loss: 0, gradNorm: 0, learningRate: 0, figures: { tokens: 0, clipped: 0, kl: 0 } };

/** One run. new -> run() once -> result or error; sessions are closed either way. */
export class GrpoLoop implements Trainer {
  readonly totalSteps: number;
  readonly estimate: TrainingEstimate;
  readonly executorReason: string;
  readonly #parts: GrpoParts;
  readonly #control: RunControl;
  readonly #updater: Updater;
  #tokens = 0;
  #started = false;

  constructor(parts: GrpoParts) {
    const { options, executor, optimizer, print, counters, stopping } = parts;
    const { hyper } = options;
    this.#parts = parts;
    this.totalSteps = hyper.steps;
    this.estimate = estimateOf(executor.choice);
    this.executorReason = executor.choice.reason;
    const updates = hyper.steps * (hyper.numIterations ?? GRPO_DEFAULTS.numIterations);
    this.#updater = new Updater(
      executor,
      optimizer,
      { ...hyper, schedule: hyper.schedule ?? GRPO_DEFAULTS.schedule },
      updates,
    );
    this.#control = new RunControl({
      signal: options.signal,
      checkpoint: options.checkpoint,
      state: () => encodeState(print(), optimizer, counters, [], stopping),
      step: () => counters.step,
    });
  }

  async pause(): Promise<Uint8Array> {
    return this.#control.pause();
  }

  async run(): Promise<TrainResult> {
    if (this.#started) throw new EngineError('engine.train.already_run', 'a trainer runs once');
    this.#started = true;
    const { counters, executor, lora, options, stopping } = this.#parts;
    const began = performance.now();
    try {
      while (counters.step < this.totalSteps && stopping?.exhausted !== true) {
        await this.#control.stopPoint();
        await this.#step(began);
        await this.#control.stepDone();
      }
      stopping?.restore();
      this.#control.settle();
    } catch (error) {
      this.#control.settle(error);
      throw error;
    } finally {
      await this.close();
    }
    const best = stopping?.best;
    return {
      lora,
      steps: counters.step,
      ...(best && { best: { step: best.step, evalLoss: best.loss } }),
      firstLoss: counters.firstLoss,
      lastLoss: counters.lastLoss,
      tokens: this.#tokens,
      seconds: (performance.now() - began) / 1000,
      peakRssBytes: process.resourceUsage().maxRSS * 1024,
      estimate: this.estimate,
      manifest: engineManifest(options.threads ?? 1, executor.choice),
    };
  }

  async close(): Promise<void> {
    await this.#parts.rollouts.close();
    await this.#parts.scorer?.close();
    await this.#parts.executor.close();
  }

  async #step(began: number): Promise<void> {
    const { options, counters, rollouts: source, lora } = this.#parts;
    let rollouts: Rollout[];
    let rewards: readonly number[];
    let texts: PassText[];
    try {
      rollouts = await source.sample(counters.step, lora);
      rewards = await source.judge(rollouts);
      texts = await this.#texts(rollouts, rewards);
    } catch (error) {
      // Nothing of this step has been learned: the state is still that of the last one.
      if (options.signal?.aborted === true) await this.#control.cancel();
      throw error;
    }
    const learned = await this.#learn(texts);
    counters.step++;
    if (counters.step === 1) counters.firstLoss = learned.loss;
    counters.lastLoss = learned.loss;
    this.#report(rollouts, rewards, learned, await this.#evaluate(), began);
  }

  /** Held-out reward every so many steps and at the end. */
  async #evaluate(): Promise<number | undefined> {
    const { options, counters, rollouts, lora, stopping } = this.#parts;
    const { step } = counters;
    if (options.evaluation === undefined) return undefined;
    if (step % options.evaluation.everySteps !== 0 && step !== this.totalSteps) return undefined;
    const reward = await rollouts.evaluate(lora);
    // Not -reward: a negative zero does not survive a saved state.
    stopping?.observe(0 - reward, step);
    return reward;
  }

  /** The completions that teach something, shortest first. */
  async #texts(rollouts: readonly Rollout[], rewards: readonly number[]): Promise<PassText[]> {
    const { options, loss, scorer } = this.#parts;
    const { hyper } = options;
    const groupSize = groupSizeOf(hyper);
    const advantages = groupAdvantages(rewards, groupSize, hyper.scaleRewards ?? GRPO_DEFAULTS.scaleRewards);
    const lengths = rollouts.map(({ completion }) => completion.length);
    const shares = tokenShares(lengths, hyper.lossType ?? GRPO_DEFAULTS.lossType, hyper.maxTokens);
    const reference = options.reference === 'base' ? undefined : options.reference;
    const scored = await scorer?.scoreRows(
      rollouts.map((rollout) => sampledRow(rollout, 1)),
      reference,
      options.signal && { signal: options.signal },
    );
    return rollouts
      .map(
        (rollout, i): PassText => ({
          prompt: rollout.prompt,
          completion: rollout.completion,
          advantage: advantages[i]!,
          share: shares[i]!,
          old: undefined,
          reference: scored?.[i],
        }),
      )
      .filter(({ advantage }) => advantage !== 0 || loss.beta > 0)
      .toSorted((a, b) => a.prompt.length + a.completion.length - b.prompt.length - b.completion.length);
  }

  /** The updates of one step. The first has the log-probabilities of sampling as its own; later ones compare with them. */
  async #learn(texts: readonly PassText[]): Promise<Learned> {
    if (texts.length === 0) return NOTHING;
    const { options, counters, executor, loss } = this.#parts;
    const { hyper } = options;
    const iterations = hyper.numIterations ?? GRPO_DEFAULTS.numIterations;
    const size = hyper.batchSize ?? texts.length;
    let batches = Array.from({ length: Math.ceil(texts.length / size) }, (_, i) =>
      texts.slice(i * size, (i + 1) * size),
    );
    let tokens = 0;
    let clipped = 0;
    let kl = 0;
    let update: Update = NOTHING;
    for (let iteration = 0; iteration < iterations; iteration++) {
      const now: PassText[][] = [];
      const feedsOf = async (i: number) => {
        const pass = grpoPass(batches[i]!, executor.chunks);
        this.#tokens += pass.tokens;
        return pass.feeds;
      };
      const index = counters.step * iterations + iteration;
      update = await this.#updater.step(index, batches.length, feedsOf, (result, i) => {
        const batch = batches[i]!;
        const logProbs = splitByText(batch, result.logProbs ?? new Float32Array());
        const figures = passFigures(batch, logProbs, loss);
        tokens += figures.tokens;
        clipped += figures.clipped;
        kl += figures.kl;
        now.push(batch.map((text, t) => ({ ...text, old: text.old ?? logProbs[t] })));
      });
      batches = now;
    }
    return { ...update, figures: { tokens, clipped, kl } };
  }

  #report(
    rollouts: readonly Rollout[],
    rewards: readonly number[],
    learned: Learned,
    evalReward: number | undefined,
    began: number,
  ): void {
    const { options, counters, loss } = this.#parts;
    const { figures, ...update } = learned;
    const size = groupSizeOf(options.hyper);
    const groups = Array.from({ length: rewards.length / size }, (_, g) => rewards.slice(g * size, (g + 1) * size));
    const tokens = Math.max(1, figures.tokens);
    options.onProgress?.({
      step: counters.step,
      totalSteps: this.totalSteps,
      epoch: (counters.step * promptsPerStepOf(options.hyper)) / options.prompts.length,
      ...update,
      tokensPerSecond: this.#tokens / Math.max(1e-3, (performance.now() - began) / 1000),
      reward: mean(rewards),
      rewardStd: mean(groups.map(deviation)),
      completionLength: mean(rollouts.map(({ completion }) => completion.length)),
      clipShare: figures.clipped / tokens,
      ...(loss.beta > 0 ? { divergence: figures.kl / tokens } : {}),
      ...(evalReward === undefined ? {} : { evalReward }),
    });
  }
}
