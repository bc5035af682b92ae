/** Changes of shape. A reshape costs nothing when the graph runs; a transpose copies. */
import { type Dim, type Graph, int, ints, type Value } from '../graph.ts';
import { added } from './arithmetic.ts';

/** The sizes of `x` as an int64 tensor `[rank]`. */
export function shapeOf(graph: Graph, x: Value): Value {
  return graph.node('Shape', [x], [x.dims.length], { type: 'int64' });
}

/**
 * Sizes for `reshape` when more than one of them is known only at run time: named sizes are taken from the shape of
 * `source`, which must carry them under the same names.
 */
export function shapeFrom(graph: Graph, source: Value, dims: readonly Dim[]): Value {
  const shape = shapeOf(graph, source);
  const parts = dims.map((d) => {
    if (typeof d === 'number') return graph.int64s([d]);
    const axis = source.dims.indexOf(d);
    if (axis < 0) throw new Error(`[${source.dims.join()}] has no dimension ${d}`);
    const at = graph.int64s([axis]);
    return graph.node('Gather', [shape, at], [1], { type: 'int64' });
  });
  return graph.node('Concat', parts, [dims.length], { type: 'int64', attributes: { axis: int(0) } });
}

/** Same elements, other shape. With more than one named size that moved, pass `shape` (see `shapeFrom`). */
export function reshape(graph: Graph, x: Value, dims: readonly Dim[], shape?: Value): Value {
  let target = shape;
  if (target === undefined) {
    const unknown = dims.filter((d, i) => typeof d === 'string' && x.dims[i] !== d);
    if (unknown.length > 1) throw new Error(`reshape to [${dims.join()}] needs a shape tensor`);
    target = graph.int64s(dims.map((d, i) => (typeof d === 'number' ? d : x.dims[i] === d ? 0 : -1)));
  }
  const y = graph.node('Reshape', [x, target], dims);
  return graph.record([x], y, (dy) => [added(graph, () => graph.node('Reshape', [dy, shapeOf(graph, x)], x.dims))]);
}

/** Reorders axes: axis i of the result is axis `order[i]` of `x`. */
export function transpose(graph: Graph, x: Value, order: readonly number[]): Value {
  const y = graph.node(
    'Transpose',
    [x],
    order.map((i) => x.dims[i]!),
    { attributes: { perm: ints(order) } },
  );
  return graph.record([x], y, (dy) => [
    added(graph, () => {
      const inverse = order.map((_, i) => order.indexOf(i));
      return graph.node('Transpose', [dy], x.dims, { attributes: { perm: ints(inverse) } });
    }),
  ]);
}
