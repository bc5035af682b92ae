/**
 * A multilayer perceptron over mixed columns. The first layer is one matrix over standardised numbers and one-hot
 * categories; the one-hot part is stored by row and gathered, so that no one-hot matrix is ever made. Columns of many
 * categories go through a small embedding first (https://arxiv.org/abs/1604.06737).
 */
import { gradients } from '../graph/autodiff.ts';
import { Graph, type Value } from '../graph/graph.ts';
import { logSoftmax, relu } from '../graph/ops/activation.ts';
import { add, multiply, scale, sum } from '../graph/ops/arithmetic.ts';
import { gemm } from '../graph/ops/linear.ts';
import { rowsAt } from '../graph/ops/lookup.ts';
import { createRandom } from '../random.ts';
import type { WeightMap } from '../types.ts';
import { type Feature, FEATURE_INPUT, numericWidth, RESERVED_CATEGORIES } from './features.ts';

export interface NetworkShape {
  readonly features: readonly Feature[];
  /** Widths of the hidden layers, at least one. */
  readonly hidden: readonly number[];
  readonly classes: number;
}

/** Up to here a column's categories are one-hot; beyond, embedded. */
const MAX_ONE_HOT = 32;
const MAX_EMBEDDING = 32;

/** Width of a column's embedding, undefined for one-hot: fast.ai's rule of thumb, 1.6 n^0.56. */
function embeddingWidth(categories: number): number | undefined {
  return categories <= MAX_ONE_HOT ? undefined : Math.min(MAX_EMBEDDING, Math.ceil(1.6 * categories ** 0.56));
}

/** Names of the loss graph besides the features. */
export const TARGETS = 'targets';
export const LOSS = 'loss';
export const LOG_PROBS = 'log_probs';
export const classifierGradient = (parameter: string): string => `grad:${parameter}`;

/** Every parameter with its shape, in a fixed order. Matrices are `[out, in]`, tables of categories `[categories, out]`. */
export function parameterShapes(shape: NetworkShape): Map<string, number[]> {
  const shapes = new Map<string, number[]>();
  const [first = 1] = shape.hidden;
  const numeric = numericWidth(shape.features);
  if (numeric > 0) shapes.set('numeric.weight', [first, numeric]);
  shape.features
    .filter((feature) => feature.kind === 'categorical')
    .forEach(({ values }, i) => {
      const size = values.length + RESERVED_CATEGORIES;
      const width = embeddingWidth(size);
      shapes.set(`category.${i}.table`, [size, width ?? first]);
      if (width !== undefined) shapes.set(`category.${i}.weight`, [first, width]);
    });
  shapes.set('input.bias', [first]);
  shape.hidden.slice(1).forEach((width, i) => {
    shapes.set(`hidden.${i}.weight`, [width, shape.hidden[i]!]);
    shapes.set(`hidden.${i}.bias`, [width]);
  });
  shapes.set('output.weight', [shape.classes, shape.hidden.at(-1)!]);
  shapes.set('output.bias', [shape.classes]);
  return shapes;
}

/** Inputs that are not zero in a row of the first layer. */
function activeInputs({ features }: NetworkShape): number {
  return numericWidth(features) + features.filter((feature) => feature.kind === 'categorical').length;
}

/** Uniform in ±1/sqrt(inputs), as torch.nn.Linear; embeddings uniform in ±1. Same seed, same bytes. */
export function initParameters(shape: NetworkShape, seed: number): WeightMap {
  const random = createRandom(seed);
  const shapes = parameterShapes(shape);
  const firstInputs = Math.max(1, activeInputs(shape));
  const weights: WeightMap = new Map();
  for (const [name, dims] of shapes) {
    const embedding = name.endsWith('.table') && shapes.has(name.replace('.table', '.weight'));
    const layer = /^(hidden\.\d+|output)\./.exec(name)?.[1];
    const inputs = layer === undefined ? firstInputs : shapes.get(`${layer}.weight`)![1]!;
    const bound = embedding ? 1 : 1 / Math.sqrt(inputs);
    const data = Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => (2 * random() - 1) * bound);
    weights.set(name, { dims, data });
  }
  return weights;
}

function logProbsOf(graph: Graph, shape: NetworkShape, parameters: ReadonlyMap<string, Value>): Value {
  const parameter = (name: string): Value => parameters.get(name)!;
  const numeric = numericWidth(shape.features);
  let state = parameter('input.bias');
  if (numeric > 0) {
    const x = graph.input(FEATURE_INPUT.numeric, ['rows', numeric]);
    state = gemm(graph, x, parameter('numeric.weight'), { transB: true, c: state });
  }
  shape.features
    .filter((feature) => feature.kind === 'categorical')
    .forEach((_, i) => {
      const index = graph.input(FEATURE_INPUT.category(i), ['rows'], 'int64');
      const rows = rowsAt(graph, parameter(`category.${i}.table`), index);
      const weight = parameters.get(`category.${i}.weight`);
      state = add(graph, weight === undefined ? rows : gemm(graph, rows, weight, { transB: true }), state);
    });
  state = relu(graph, state);
  shape.hidden.slice(1).forEach((_, i) => {
    const c = parameter(`hidden.${i}.bias`);
    state = relu(graph, gemm(graph, state, parameter(`hidden.${i}.weight`), { transB: true, c }));
  });
  const c = parameter('output.bias');
  return logSoftmax(graph, gemm(graph, state, parameter('output.weight'), { transB: true, c }));
}

/**
 * Log-probabilities `log_probs: [rows, classes]`; for training also `loss` = -sum(targets * log_probs), where
 * `targets: [rows, classes]` holds each row's share of the loss at its class, and the gradient of every parameter.
 */
export function classifierGraph(shape: NetworkShape, training: boolean): Graph {
  const graph = new Graph();
  const parameters = new Map([...parameterShapes(shape)].map(([name, dims]) => [name, graph.input(name, dims)]));
  const logProbs = logProbsOf(graph, shape, parameters);
  graph.output(LOG_PROBS, logProbs);
  if (!training) return graph;
  const targets = graph.input(TARGETS, ['rows', shape.classes]);
  const loss = scale(graph, sum(graph, multiply(graph, logProbs, targets)), -1);
  graph.output(LOSS, loss);
  gradients(graph, loss, [...parameters.values()]).forEach((gradient, i) => {
    graph.output(classifierGradient([...parameters.keys()][i]!), gradient);
  });
  return graph;
}
