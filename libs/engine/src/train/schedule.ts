/** Learning rate over the steps of a run, as in Transformers' get_{cosine,linear,constant}_schedule_with_warmup. */

export interface ScheduleOptions {
  readonly kind: 'cosine' | 'linear' | 'constant';
  readonly totalSteps: number;
  readonly warmupRatio: number;
  /** Share of the peak that is left at the end. */
  readonly finalRatio: number;
}

/** Share of the peak rate for optimiser step `index`, counted from 0. With warm-up the first step's rate is 0. */
export function rateAt(options: ScheduleOptions, index: number): number {
  const warmup = Math.ceil(options.totalSteps * options.warmupRatio);
  if (index < warmup) return index / warmup;
  if (options.kind === 'constant') return 1;
  const progress = Math.min(1, (index - warmup) / Math.max(1, options.totalSteps - warmup));
  const falling = options.kind === 'linear' ? 1 - progress : 0.5 * (1 + Math.cos(Math.PI * progress));
  return options.finalRatio + (1 - options.finalRatio) * falling;
}
