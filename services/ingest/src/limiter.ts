import { AppError } from '@tuneloop/runtime/errors';

export interface LimiterOptions {
  readonly concurrency: number;
  /** Work beyond this is refused at once. */
  readonly maxWaiting: number;
  /** What there is too much of, for the refusal. */
  readonly what: string;
}

/** Runs at most `concurrency` pieces of work at a time, in order of arrival, with a bounded queue. */
export class Limiter {
  readonly #options: LimiterOptions;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(options: LimiterOptions) {
    this.#options = options;
  }

  /** @throws AppError 503 when the queue is full. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running < this.#options.concurrency) this.#running++;
    else await this.#wait();
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      // The place is handed on, so that nobody who comes in between takes it.
      if (next) next();
      else this.#running--;
    }
  }

  #wait(): Promise<void> {
    if (this.#waiting.length >= this.#options.maxWaiting) {
      throw new AppError({
        code: 'ingest.busy',
        status: 503,
        message: `There are too many ${this.#options.what} at once. Try again in a moment.`,
        retry: true,
      });
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
