/** The graphs of training and scoring: the whole model in one, its losses by `losses.ts`. */
import { gradients } from '../graph/autodiff.ts';
import { Graph, type Value } from '../graph/graph.ts';
import type { ModelConfig, QuantizedMap } from '../types.ts';
import { type AdapterShape, llamaStates, LlamaValues, loraAName, loraBName, weightShapes } from './llama.ts';
import { INPUT, lossOutputs, lossParameters, type LossSpec, OUTPUT, pickedLogProbs, pickedRewards } from './losses.ts';

export const gradientName = (parameter: string): string => `grad:${parameter}`;

export interface TrainingGraphSpec {
  readonly config: ModelConfig;
  /** Size of the rotary tables: no position may reach it. */
  readonly positions: number;
  readonly adapter?: AdapterShape;
  /** Matrices fed in 4 bits. */
  readonly quantized?: QuantizedMap;
  readonly loss: LossSpec;
  /** Parts in which logits are made, see `logitChunks`; the number of picks must be a multiple (default 1). */
  readonly chunks?: number;
  /** Build only the loss, for evaluation. */
  readonly forwardOnly?: boolean;
}

/** `[tokens, hidden]` after the last layer, of the sequences that the inputs hold. */
function sequenceStates(model: LlamaValues): Value {
  const { graph } = model;
  const ids = graph.input(INPUT.ids, ['batch', 'seq'], 'int64');
  const positions = graph.input(INPUT.positions, ['batch', 'seq'], 'int64');
  const mask = graph.input(INPUT.mask, ['batch', 1, 'seq', 'seq']);
  return llamaStates(model, ids, positions, mask);
}

/** log-probability of each picked label: output `log_probs: [picked, 1]`. */
export function scoringGraph(spec: Omit<TrainingGraphSpec, 'loss' | 'forwardOnly'>): Graph {
  const graph = new Graph();
  const model = new LlamaValues(graph, spec.config, spec.positions, spec.adapter, spec.quantized);
  const states = sequenceStates(model);
  graph.output(OUTPUT.logProbs, pickedLogProbs(model, states, { chunks: spec.chunks ?? 1, differentiable: false }));
  return graph;
}

/** Rewards of picked states: output `rewards: [picked, dimensions]`. */
export function rewardGraph(
  spec: Omit<TrainingGraphSpec, 'loss' | 'forwardOnly' | 'chunks'>,
  dimensions: number,
): Graph {
  const graph = new Graph();
  const model = new LlamaValues(graph, spec.config, spec.positions, spec.adapter, spec.quantized);
  graph.output(OUTPUT.rewards, pickedRewards(model, sequenceStates(model), dimensions).rewards);
  return graph;
}

export interface TrainingGraph {
  readonly graph: Graph;
  /** Names of the trained parameters, in the order of their gradient outputs `grad:<name>`. */
  readonly parameters: readonly string[];
}

/** Names of what is trained: adapters (A, then B, of each module) if there are any, else every weight; then the loss's own. */
export function trainedParameters(config: ModelConfig, loss: LossSpec, adapter?: AdapterShape): string[] {
  const model =
    adapter === undefined
      ? weightShapes(config).keys()
      : [...adapter.modules].flatMap((module) => [loraAName(module), loraBName(module)]);
  return [...model, ...lossParameters(loss)];
}

/** Loss and, unless `forwardOnly`, the gradient of every trained parameter (adapters if there are any, else all). */
export function trainingGraph(spec: TrainingGraphSpec): TrainingGraph {
  const graph = new Graph();
  const model = new LlamaValues(graph, spec.config, spec.positions, spec.adapter, spec.quantized);
  const states = sequenceStates(model);
  const { loss, parameters: own } = lossOutputs(model, states, spec.loss, {
    chunks: spec.chunks ?? 1,
    differentiable: spec.forwardOnly !== true,
  });
  const trained =
    spec.adapter === undefined
      ? [...model.weights.values()]
      : [...model.adapters.keys()].flatMap((module) => {
          const adapter = model.adapters.get(module);
          return adapter === undefined ? [] : [adapter.a, adapter.b];
        });
  trained.push(...own);
  const parameters = trained.map((v) => v.name);
  if (spec.forwardOnly === true) return { graph, parameters };
  gradients(graph, loss, trained).forEach((gradient, i) => {
    graph.output(gradientName(parameters[i]!), gradient);
  });
  return { graph, parameters };
}
