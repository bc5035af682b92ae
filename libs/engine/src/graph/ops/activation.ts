/** Nonlinearities. */
import { type Dim, type Graph, int, type Value } from '../graph.ts';
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

/** 1 / (1 + exp(-x)) */
export function sigmoid(graph: Graph, x: Value): Value {
  const y = graph.node('Sigmoid', [x], x.dims);
  return graph.record([x], y, (dy) => [
    added(graph, () => {
      const slope = graph.node('Sub', [y, graph.node('Mul', [y, y], x.dims)], x.dims);
      return graph.node('Mul', [dy, slope], x.dims);
    }),
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

/** max(x, 0). The gradient at 0 is 0. */
export function relu(graph: Graph, x: Value): Value {
  const y = graph.node('Relu', [x], x.dims);
  return graph.record([x], y, (dy) => [
    // The sign of what is at least 0 is 0 or 1: the mask, without a comparison and its type.
    added(graph, () => graph.node('Mul', [dy, graph.node('Sign', [y], x.dims)], x.dims)),
  ]);
}

/** log softmax over the last axis. With p the softmax: dx = dy - p sum(dy). */
export function logSoftmax(graph: Graph, x: Value): Value {
  const last = { attributes: { axis: int(-1) } };
  const y = graph.node('LogSoftmax', [x], x.dims, last);
  return graph.record([x], y, (dy) => [
    added(graph, () => {
      const rows: Dim[] = [...x.dims.slice(0, -1), 1];
      const total = graph.node('ReduceSum', [dy, graph.int64s([-1])], rows, { attributes: { keepdims: int(1) } });
      const shared = graph.node('Mul', [graph.node('Softmax', [x], x.dims, last), total], x.dims);
      return graph.node('Sub', [dy, shared], x.dims);
    }),
  ]);
}
