/** Cancelling, pausing and saving, for every kind of training loop. */
import { EngineError } from '../errors.ts';
import type { CheckpointOptions } from '../types.ts';
import { TrainingCancelled } from './trainingCancelled.ts';

export interface RunControlParts {
  readonly signal: AbortSignal | undefined;
  readonly checkpoint: CheckpointOptions | undefined;
  /** The whole state after the last finished step. */
  readonly state: () => Uint8Array;
  /** Steps finished. */
  readonly step: () => number;
}

/**
 * Watches one run: going -> stopped. A stop is asked for at any moment (signal or `pause`) and happens at the next
 * `stopPoint`, where no step is half done; the run rejects with TrainingCancelled.
 */
export class RunControl {
  readonly #parts: RunControlParts;
  #pause: PromiseWithResolvers<Uint8Array> | undefined;
  #ended: { readonly error: unknown } | undefined;

  constructor(parts: RunControlParts) {
    this.#parts = parts;
  }

  /** Asks the run to stop and gives the state to resume from. Rejects with the run's error, or when it ends first. */
  async pause(): Promise<Uint8Array> {
    if (this.#ended !== undefined) throw this.#ended.error;
    this.#pause ??= Promise.withResolvers<Uint8Array>();
    return this.#pause.promise;
  }

  /** Gives signals a turn (a pass blocks the thread), then stops if one asked for it, after a last save. */
  async stopPoint(): Promise<void> {
    await new Promise(setImmediate);
    if (this.#pause !== undefined) {
      const state = this.#parts.state();
      await this.#parts.checkpoint?.save(state, this.#parts.step());
      this.#pause.resolve(state);
      throw new TrainingCancelled(this.#parts.step(), new Error('paused'));
    }
    if (this.#parts.signal?.aborted === true) await this.cancel();
  }

  /** The end of a cancelled run: what is finished is saved. */
  async cancel(): Promise<never> {
    if (this.#parts.step() > 0) await this.#save();
    throw new TrainingCancelled(this.#parts.step(), this.#parts.signal?.reason);
  }

  /** Saves every so many steps. */
  async stepDone(): Promise<void> {
    const every = this.#parts.checkpoint?.everySteps;
    if (every !== undefined && this.#parts.step() % every === 0) await this.#save();
  }

  /** The run is over, with `error` if it failed: a pause that came too late is answered. */
  settle(error?: unknown): void {
    this.#ended = {
      error: error ?? new EngineError('engine.train.already_run', 'the run has ended: there is nothing to pause'),
    };
    this.#pause?.reject(this.#ended.error);
  }

  async #save(): Promise<void> {
    await this.#parts.checkpoint?.save(this.#parts.state(), this.#parts.step());
  }
}
