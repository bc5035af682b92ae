/** Elementwise arithmetic with broadcasting, and sums. */
import { type Contribution, type Dim, type Graph, int, type Value } from '../graph.ts';

/** Shape of a broadcast pair, by NumPy's rule. Named sizes match only themselves or 1. */
export function broadcastDims(a: readonly Dim[], b: readonly Dim[]): Dim[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const x = a[i - (rank - a.length)] ?? 1;
    const y = b[i - (rank - b.length)] ?? 1;
    if (x === y || y === 1) return x;
    if (x === 1) return y;
    throw new Error(`cannot broadcast [${a.join()}] with [${b.join()}]`);
  });
}

/** A contribution that is computed on its own and added to the running sum. */
export function added(graph: Graph, make: () => Value): Contribution {
  return (running) => {
    const value = make();
    return running === undefined ? value : graph.node('Add', [running, value], running.dims);
  };
}

/** Sums a gradient over the axes along which a value of shape `dims` was broadcast. */
export function unbroadcast(graph: Graph, gradient: Value, dims: readonly Dim[]): Value {
  const lead = gradient.dims.length - dims.length;
  const leading = Array.from({ length: lead }, (_, i) => i);
  const stretched = dims.flatMap((d, i) => (d === 1 && gradient.dims[i + lead] !== 1 ? [i + lead] : []));
  let value = gradient;
  if (stretched.length > 0) {
    const kept = value.dims.map((d, i) => (stretched.includes(i) ? 1 : d));
    value = graph.node('ReduceSum', [value, graph.int64s(stretched)], kept, { attributes: { keepdims: int(1) } });
  }
  if (lead > 0) {
    value = graph.node('ReduceSum', [value, graph.int64s(leading)], dims, { attributes: { keepdims: int(0) } });
  }
  return value;
}

/** a + b */
export function add(graph: Graph, a: Value, b: Value): Value {
  const y = graph.node('Add', [a, b], broadcastDims(a.dims, b.dims));
  return graph.record([a, b], y, (dy) => [
    added(graph, () => unbroadcast(graph, dy, a.dims)),
    added(graph, () => unbroadcast(graph, dy, b.dims)),
  ]);
}

/** a - b */
export function subtract(graph: Graph, a: Value, b: Value): Value {
  const y = graph.node('Sub', [a, b], broadcastDims(a.dims, b.dims));
  return graph.record([a, b], y, (dy) => [
    added(graph, () => unbroadcast(graph, dy, a.dims)),
    added(graph, () => unbroadcast(graph, graph.node('Neg', [dy], dy.dims), b.dims)),
  ]);
}

/** a * b, elementwise */
export function multiply(graph: Graph, a: Value, b: Value): Value {
  const dims = broadcastDims(a.dims, b.dims);
  const y = graph.node('Mul', [a, b], dims);
  return graph.record([a, b], y, (dy) => [
    added(graph, () => unbroadcast(graph, graph.node('Mul', [dy, b], dims), a.dims)),
    added(graph, () => unbroadcast(graph, graph.node('Mul', [dy, a], dims), b.dims)),
  ]);
}

/** x times a number */
export function scale(graph: Graph, x: Value, factor: number): Value {
  return multiply(graph, x, graph.scalar(factor));
}

/** Sum of all elements, of shape `[]`. */
export function sum(graph: Graph, x: Value): Value {
  const axes = graph.int64s(x.dims.map((_, i) => i));
  const y = graph.node('ReduceSum', [x, axes], [], { attributes: { keepdims: int(0) } });
  return graph.record([x], y, (dy) => [
    added(graph, () => {
      const shape = graph.node('Shape', [x], [x.dims.length], { type: 'int64' });
      return graph.node('Expand', [dy, shape], x.dims);
    }),
  ]);
}
