/** Chooses and builds the executor of a run. */
import { EngineError } from '../errors.ts';
import type { ActivationPolicy, ExecutorEstimate, ExecutorKind } from '../types.ts';
import { type Executor, type ExecutorChoice, type ExecutorOptions, weightFeeds } from './executor.ts';
import { createLayerwiseExecutor } from './layerwise.ts';
import { estimateExecutors, secondsFor } from './memory.ts';
import { executorOfState } from './state.ts';
import { createWholeGraphExecutor } from './wholeGraph.ts';

/** Share of the memory that is free now which training takes without being given a budget. */
const FREE_SHARE = 0.8;

export interface ExecutorWishes {
  readonly executor?: ExecutorKind | 'auto';
  readonly activations?: ActivationPolicy | 'auto';
  readonly memoryBudgetBytes?: number;
}

/** What a trainer's options say of executors; where they leave it open, a run goes on as its saved state began. */
export function executorWishes(options: ExecutorWishes & { readonly resumeFrom?: Uint8Array }): ExecutorWishes {
  const { executor = 'auto', activations = 'auto', memoryBudgetBytes, resumeFrom } = options;
  const budget = memoryBudgetBytes === undefined ? {} : { memoryBudgetBytes };
  const began = resumeFrom && executorOfState(resumeFrom);
  if (began === undefined || (executor !== 'auto' && executor !== began.executor)) {
    return { executor, activations, ...budget };
  }
  return {
    executor: began.executor,
    activations: activations === 'auto' ? (began.activations ?? 'auto') : activations,
    ...budget,
  };
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(2)} GB`;
const nameOf = ({ executor, activations }: ExecutorEstimate): string =>
  activations === undefined ? executor : `${executor} with activations to ${activations}`;

function choose(
  candidates: readonly ExecutorEstimate[],
  wishes: ExecutorWishes,
): ExecutorEstimate & { reason: string } {
  const { executor = 'auto', activations = 'auto', memoryBudgetBytes } = wishes;
  const allowed = candidates.filter(
    (c) =>
      (executor === 'auto' || c.executor === executor) &&
      (activations === 'auto' || c.activations === undefined || c.activations === activations),
  );
  const limit = memoryBudgetBytes ?? process.memoryUsage.rss() + FREE_SHARE * process.availableMemory();
  const room = `${gigabytes(limit)} that ${memoryBudgetBytes === undefined ? 'are free to use' : 'the budget allows'}`;
  const fitting = allowed.find((c) => c.memoryBytes <= limit);
  const least = allowed.reduce((a, b) => (b.memoryBytes < a.memoryBytes ? b : a));
  if (fitting === undefined && memoryBudgetBytes !== undefined) {
    throw new EngineError(
      'engine.train.over_budget',
      `training takes at least about ${gigabytes(least.memoryBytes)} (${nameOf(least)}), more than memoryBudgetBytes, ${gigabytes(limit)}: lower batchSize or maxLength`,
    );
  }
  const chosen = fitting ?? least;
  const takes = `${nameOf(chosen)}: about ${gigabytes(chosen.memoryBytes)}`;
  if (fitting === undefined) return { ...chosen, reason: `${takes}, the least there is, though more than the ${room}` };
  const passed = allowed.slice(0, allowed.indexOf(fitting));
  const why = passed.map((c) => `${nameOf(c)} would take ${gigabytes(c.memoryBytes)}`).join(', ');
  return { ...chosen, reason: `${takes} of the ${room}${why === '' ? '' : `; ${why}`}` };
}

/** What `createExecutor` would build, without building it. */
export async function planExecutor(options: ExecutorOptions & ExecutorWishes): Promise<ExecutorChoice> {
  weightFeeds(options.model); // Names a weight that does not fit before anything is compiled.
  const chosen = choose(estimateExecutors(options), options);
  return { ...chosen, secondsPerPass: await secondsFor(chosen.flopPerPass, options) };
}

/**
 * @throws EngineError `engine.weights.*` when the weights do not fit the architecture, `engine.train.over_budget` when no
 * way of training fits the given memory
 */
export async function createExecutor(options: ExecutorOptions & ExecutorWishes): Promise<Executor> {
  const choice = await planExecutor(options);
  return choice.executor === 'layer-wise'
    ? createLayerwiseExecutor(options, choice)
    : createWholeGraphExecutor(options, choice);
}
