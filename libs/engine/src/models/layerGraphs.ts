/**
 * A model cut into pieces that are compiled once and run for every layer: the layer forward, the layer backward, and the
 * head with the loss. Layers differ only in what is fed, so the pieces are built from the same blocks as the whole graph,
 * as the first layer of a model of one.
 */
import { gradients, pullback } from '../graph/autodiff.ts';
import { type Dim, Graph, type Value } from '../graph/graph.ts';
import type { ActivationPolicy, ModelConfig, QuantizedMap } from '../types.ts';
import { type AdapterShape, llamaLayer, LlamaValues, stackedQueries } from './llama.ts';
import { lossOutputs, type LossSpec } from './losses.ts';
import { gradientName } from './trainingGraph.ts';

/** Inputs and outputs of the layer graphs besides weights, adapters and their gradients. */
export const LAYER = {
  input: 'layer_input', // float32 [tokens, hidden]
  output: 'layer_output', // likewise
  outputGradient: 'layer_output_gradient', // likewise
  inputGradient: 'layer_input_gradient', // likewise
  positions: 'positions', // int64 [batch, seq]
  mask: 'layer_mask', // float32 [batch, 1, seq * (heads / kvHeads), seq]: see `groupedMask`
} as const;

export interface LayerSpec {
  readonly config: ModelConfig;
  /** Size of the rotary tables: no position may reach it. */
  readonly positions: number;
  /** Modules named as those of layer 0. */
  readonly adapter?: AdapterShape;
  /** Matrices fed in 4 bits, named as those of layer 0. */
  readonly quantized?: QuantizedMap;
}

export interface LayerGraphs {
  readonly forward: Graph;
  readonly backward: Graph;
  /** Outputs of `forward` that are inputs of `backward`, under the same names. None with 'recompute'. */
  readonly saved: readonly Value[];
  /** Trained tensors under their names in layer 0; `backward` gives `grad:<name>`. */
  readonly parameters: readonly string[];
}

interface Layer {
  readonly graph: Graph;
  readonly model: LlamaValues;
  readonly input: Value;
  readonly output: Value;
}

function buildLayer(spec: LayerSpec): Layer {
  const graph = new Graph();
  const config = { ...spec.config, numLayers: 1 };
  const model = new LlamaValues(graph, config, spec.positions, spec.adapter, spec.quantized);
  const input = graph.input(LAYER.input, ['tokens', config.hiddenSize]);
  const positions = graph.input(LAYER.positions, ['batch', 'seq'], 'int64');
  const rows = stackedQueries(config.numHeads / config.numKvHeads, 'seq');
  const mask = graph.input(LAYER.mask, ['batch', 1, rows, 'seq']);
  return { graph, model, input, output: llamaLayer(model, input, positions, mask, 0) };
}

/** Scores of attention grow with the square of a row's length and are cheap to make again; every other product is kept. */
function isSavedProduct(op: string, dims: readonly Dim[]): boolean {
  return op === 'Gemm' || (op === 'FusedMatMul' && typeof dims.at(-1) === 'number');
}

/** The graphs of one layer. Both are built by the same calls, so a value has the same name in both. */
export function layerGraphs(spec: LayerSpec, activations: ActivationPolicy): LayerGraphs {
  const forward = buildLayer(spec);
  const backward = buildLayer(spec);
  const { graph, model } = backward;
  const forwardNodes = graph.nodeCount;
  const trained =
    spec.adapter === undefined
      ? [...model.weights.values()].filter((v) => v.name.startsWith('model.layers.'))
      : [...model.adapters.values()].flatMap(({ a, b }) => [a, b]);
  const cotangent = graph.input(LAYER.outputGradient, backward.output.dims);
  const [inputGradient, ...others] = pullback(graph, backward.output, cotangent, [backward.input, ...trained]);
  graph.output(LAYER.inputGradient, inputGradient!);
  others.forEach((gradient, i) => graph.output(gradientName(trained[i]!.name), gradient));
  forward.graph.output(LAYER.output, forward.output);
  const saved =
    activations === 'recompute' ? [] : graph.frontier(forwardNodes, (node, v) => isSavedProduct(node.op, v.dims));
  for (const value of saved) {
    graph.provide(value);
    forward.graph.expose(value);
  }
  return { forward: forward.graph, backward: graph, saved, parameters: trained.map((v) => v.name) };
}

export interface HeadSpec {
  readonly config: ModelConfig;
  /** The head, when it is fed in 4 bits. */
  readonly quantized?: QuantizedMap;
  readonly loss: LossSpec;
  /** Parts in which logits are made, see `logitChunks`. */
  readonly chunks: number;
  /** Train the final norm and the output embedding too. */
  readonly trained: boolean;
  /** Build only the loss, for evaluation. */
  readonly forwardOnly?: boolean;
}

/**
 * From the last layer's output (`layer_input`) to the loss, its other pass outputs and the gradient with respect to that
 * output (`layer_input_gradient`). Inputs of the loss are named as in the whole graph.
 */
export function headGraph(spec: HeadSpec): { readonly graph: Graph; readonly parameters: readonly string[] } {
  const graph = new Graph();
  const model = new LlamaValues(graph, { ...spec.config, numLayers: 0 }, 1, undefined, spec.quantized);
  const states = graph.input(LAYER.input, ['tokens', spec.config.hiddenSize]);
  const differentiable = spec.forwardOnly !== true;
  const { loss, parameters: own } = lossOutputs(model, states, spec.loss, { chunks: spec.chunks, differentiable });
  const trained = [...(spec.trained ? [model.weight('model.norm.weight'), model.head] : []), ...own];
  const parameters = trained.map((v) => v.name);
  if (!differentiable) return { graph, parameters };
  const [inputGradient, ...others] = gradients(graph, loss, [states, ...trained]);
  graph.output(LAYER.inputGradient, inputGradient!);
  others.forEach((gradient, i) => graph.output(gradientName(parameters[i]!), gradient));
  return { graph, parameters };
}
