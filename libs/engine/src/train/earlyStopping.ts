/** Stopping when the evaluation loss no longer falls, and going back to where it was lowest. */
import type { EarlyStoppingOptions } from '../types.ts';
import type { Parameter } from './adamw.ts';

/** The best evaluation so far. */
export interface BestSoFar {
  readonly loss: number;
  readonly step: number;
  /** Evaluations since then. */
  readonly since: number;
}

/** watching -> exhausted, after `patience` evaluations in a row that were no better than the best. */
export class EarlyStopping {
  readonly #options: EarlyStoppingOptions;
  readonly #parameters: readonly Parameter[];
  #best: BestSoFar | undefined;
  #values: readonly Float32Array[] = [];

  constructor(options: EarlyStoppingOptions, parameters: readonly Parameter[]) {
    this.#options = options;
    this.#parameters = parameters;
  }

  get best(): BestSoFar | undefined {
    return this.#best;
  }

  /** The parameters at the best evaluation; empty before the first. */
  get values(): readonly Float32Array[] {
    return this.#values;
  }

  get exhausted(): boolean {
    return this.#best !== undefined && this.#best.since >= this.#options.patience;
  }

  observe(loss: number, step: number): void {
    const best = this.#best;
    if (best !== undefined && !(loss < best.loss - (this.#options.minDelta ?? 0))) {
      this.#best = { ...best, since: best.since + 1 };
      return;
    }
    this.#best = { loss, step, since: 0 };
    this.#values = this.#parameters.map((p) => p.data.slice());
  }

  /** Goes on from a saved state. */
  resume(best: BestSoFar, values: readonly Float32Array[]): void {
    this.#best = best;
    this.#values = values;
  }

  /** Puts the best parameters back. */
  restore(): void {
    this.#values.forEach((values, i) => this.#parameters[i]!.data.set(values));
  }
}
