/** From the passes of a step to the updated parameters: accumulation, clipping, schedule, AdamW. */
import { EngineError } from '../errors.ts';
import type { Feeds } from '../graph/session.ts';
import type { TrainingHyper } from '../types.ts';
import { type AdamW, clipFactor, globalNorm } from './adamw.ts';
import type { Executor, PassResult } from './executor.ts';
import { rateAt } from './schedule.ts';

export type UpdateHyper = Pick<
  TrainingHyper,
  'learningRate' | 'schedule' | 'warmupRatio' | 'finalRatio' | 'maxGradNorm'
>;

export interface Update {
  readonly loss: number;
  /** Before clipping. */
  readonly gradNorm: number;
  readonly learningRate: number;
}

export class Updater {
  readonly #executor: Executor;
  readonly #optimizer: AdamW;
  readonly #hyper: UpdateHyper;
  readonly #totalUpdates: number;

  constructor(executor: Executor, optimizer: AdamW, hyper: UpdateHyper, totalUpdates: number) {
    this.#executor = executor;
    this.#optimizer = optimizer;
    this.#hyper = hyper;
    this.#totalUpdates = totalUpdates;
  }

  /**
   * One update from the summed gradients of `count` passes.
   *
   * @param index of the update, from 0
   * @param feedsOf inputs of pass i
   * @param onPass called with the outputs of pass i
   * @throws EngineError `engine.train.diverged` before anything is changed
   */
  async step(
    index: number,
    count: number,
    feedsOf: (pass: number) => Promise<Feeds>,
    onPass: (result: PassResult, pass: number) => void,
  ): Promise<Update> {
    const { gradients } = this.#executor;
    let kept: Float32Array[] | undefined;
    let loss = 0;
    for (let pass = 0; pass < count; pass++) {
      const result = await this.#executor.gradientPass(await feedsOf(pass));
      loss += result.loss;
      onPass(result, pass);
      if (count === 1) break;
      if (kept === undefined) kept = gradients.map((g) => g.slice());
      else addInto(kept, gradients);
    }
    return this.#apply(kept ?? gradients, loss, index);
  }

  #apply(gradients: readonly Float32Array[], loss: number, index: number): Update {
    const hyper = this.#hyper;
    const gradNorm = globalNorm(gradients);
    if (!Number.isFinite(loss + gradNorm)) {
      const where = `step ${index + 1}`;
      throw new EngineError('engine.train.diverged', `${where} has loss ${loss} and gradient norm ${gradNorm}`);
    }
    const factor = clipFactor(gradNorm, hyper.maxGradNorm ?? 1);
    const schedule = {
      kind: hyper.schedule ?? 'cosine',
      totalSteps: this.#totalUpdates,
      warmupRatio: hyper.warmupRatio ?? 0,
      finalRatio: hyper.finalRatio ?? 0,
    };
    const learningRate = hyper.learningRate * rateAt(schedule, index);
    this.#optimizer.update(gradients, index + 1, learningRate, factor);
    return { loss, gradNorm, learningRate };
  }
}

function addInto(sums: readonly Float32Array[], values: readonly Float32Array[]): void {
  sums.forEach((total, k) => {
    const value = values[k]!;
    for (let i = 0; i < total.length; i++) total[i] = total[i]! + value[i]!;
  });
}
