/** Root-mean-square layer normalisation (https://arxiv.org/abs/1910.07467). */
import { type Dim, float, type Graph, int, type Value } from '../graph.ts';
import { added } from './arithmetic.ts';

/**
 * y = x / sqrt(mean(x^2) + eps) * weight over the last axis. `x: [..., d]`, `weight: [d]`.
 *
 * Gradient, with r = 1 / sqrt(mean(x^2) + eps) and g = dy * weight: dx = r g - x r^3 mean(g x).
 */
export function rmsNorm(graph: Graph, x: Value, weight: Value, eps: number): Value {
  const rows: Dim[] = [...x.dims.slice(0, -1), 1];
  const [y, r] = graph.nodes('SimplifiedLayerNormalization', [x, weight], [x.dims, rows], {
    attributes: { axis: int(-1), epsilon: float(eps), stash_type: int(1) },
  }) as [Value, Value];
  const mul = (a: Value, b: Value): Value => graph.node('Mul', [a, b], a.dims);
  return graph.record([x, weight], y, (dy) => {
    return [
      added(graph, () => {
        const g = mul(dy, weight);
        const mean = graph.node('ReduceMean', [mul(g, x), graph.int64s([-1])], rows, {
          attributes: { keepdims: int(1) },
        });
        const k = mul(mul(mean, r), mul(r, r));
        return graph.node('Sub', [mul(g, r), mul(x, k)], x.dims);
      }),
      added(graph, () => {
        const leading = graph.int64s(x.dims.slice(0, -1).map((_, i) => i));
        return graph.node('ReduceSum', [mul(dy, mul(x, r)), leading], weight.dims, {
          attributes: { keepdims: int(0) },
        });
      }),
    ];
  });
}
