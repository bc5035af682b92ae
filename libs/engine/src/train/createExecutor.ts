/** Chooses and builds the executor of a run. */
import type { ActivationPolicy, ExecutorKind } from '../types.ts';
import { type Executor, type ExecutorChoice, type ExecutorOptions, weightFeeds } from './executor.ts';
import { createLayerwiseExecutor } from './layerwise.ts';
import { createWholeGraphExecutor } from './wholeGraph.ts';

export interface ExecutorWishes {
  readonly executor?: ExecutorKind;
  readonly activations?: ActivationPolicy;
}

function choose({ executor = 'whole-graph', activations = 'save' }: ExecutorWishes): ExecutorChoice {
  return executor === 'whole-graph'
    ? { kind: executor, reason: 'whole-graph: forward and backward of the whole model in one graph' }
    : { kind: executor, activations, reason: `layer-wise with ${activations} activations, as asked` };
}

/** @throws EngineError `engine.weights.*` when the weights do not fit the architecture. */
export async function createExecutor(options: ExecutorOptions & ExecutorWishes): Promise<Executor> {
  weightFeeds(options.model); // Names a weight that does not fit before anything is compiled.
  const choice = choose(options);
  return choice.kind === 'layer-wise'
    ? createLayerwiseExecutor(options, choice)
    : createWholeGraphExecutor(options, choice);
}
