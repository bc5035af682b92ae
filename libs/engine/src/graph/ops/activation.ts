/** Nonlinearities. */
import type { Graph, Value } from '../graph.ts';
import { added } from './arithmetic.ts';

/**
 * silu(gate) * up, the activation of Llama's MLP (https://arxiv.org/abs/2002.05202). Equal shapes.
 *
 * With s = sigmoid(gate) and a = gate * s: d gate = dy up (s + a (1 - s)), d up = dy a.
 */
export function swiglu(graph: Graph, gate: Value, up: Value): Value {
  const dims = gate.dims;
  const s = graph.node('Sigmoid', [gate], dims);
  const a = graph.node('Mul', [gate, s], dims);
  const y = graph.node('Mul', [a, up], dims);
  return graph.record([gate, up], y, (dy) => [
    added(graph, () => {
      const slope = graph.node('Sub', [graph.node('Add', [s, a], dims), graph.node('Mul', [s, a], dims)], dims);
      return graph.node('Mul', [graph.node('Mul', [dy, up], dims), slope], dims);
    }),
    added(graph, () => graph.node('Mul', [dy, a], dims)),
  ]);
}

/** log(1 / (1 + exp(-x))), without overflow. */
export function logSigmoid(graph: Graph, x: Value): Value {
  const negative = graph.node('Neg', [x], x.dims);
  const y = graph.node('Neg', [graph.node('Softplus', [negative], x.dims)], x.dims);
  return graph.record([x], y, (dy) => [
    added(graph, () => graph.node('Mul', [dy, graph.node('Sigmoid', [negative], x.dims)], x.dims)),
  ]);
}
