/** Scaled dot-product attention and rotary position embedding. */
import { type Graph, int, type Value } from '../graph.ts';
import { MICROSOFT_DOMAIN } from '../onnx.ts';
import { added } from './arithmetic.ts';
import { batchedProduct } from './linear.ts';

/**
 * softmax(alpha q k^T + mask) v.
 *
 * `q: [batch, kvHeads, rows, d]`, `k, v: [batch, kvHeads, keys, d]`, `mask` broadcast to `[batch, kvHeads, rows, keys]`
 * (0 to attend, a large negative number not to). With grouped heads, `rows` stacks the queries that share a key head.
 *
 * Gradient with P the weights and o the result: dS = P (dP - rowsum(do o)), the row sum taken over d instead of over
 * keys (https://arxiv.org/abs/2205.14135, B.4).
 */
export function attention(graph: Graph, q: Value, k: Value, v: Value, mask: Value, alpha: number): Value {
  const raw = batchedProduct(graph, q, k, { transB: true, alpha });
  const weights = graph.node('Softmax', [graph.node('Add', [raw, mask], raw.dims)], raw.dims, {
    attributes: { axis: int(-1) },
  });
  const o = batchedProduct(graph, weights, v);
  return graph.record([q, k, v], o, (dy) => {
    let scores: Value | undefined;
    const scoreGradient = (): Value => {
      if (scores !== undefined) return scores;
      const dp = batchedProduct(graph, dy, v, { transB: true });
      const rowSum = graph.node(
        'ReduceSum',
        [graph.node('Mul', [dy, o], o.dims), graph.int64s([-1])],
        [...o.dims.slice(0, -1), 1],
        { attributes: { keepdims: int(1) } },
      );
      scores = graph.node('Mul', [weights, graph.node('Sub', [dp, rowSum], dp.dims)], dp.dims);
      return scores;
    };
    return [
      added(graph, () => batchedProduct(graph, scoreGradient(), k, { alpha })),
      added(graph, () => batchedProduct(graph, scoreGradient(), q, { transA: true, alpha })),
      added(graph, () => batchedProduct(graph, weights, dy, { transA: true })),
    ];
  });
}

/** Tables of a rotary embedding: cosines, sines and negated sines, each `[positions, d / 2]`. */
export interface RotaryTables {
  readonly cos: Value;
  readonly sin: Value;
  readonly negativeSin: Value;
}

/**
 * Rotates the pairs (i, i + d / 2) of each head by its position's angles (https://arxiv.org/abs/2104.09864, in the
 * half-split layout of Hugging Face). `x: [batch, seq, heads * d]`, `positions: int64 [batch, seq]`. The gradient is
 * the rotation by the opposite angle.
 */
export function rotary(graph: Graph, x: Value, positions: Value, tables: RotaryTables): Value {
  const rotate = (value: Value, sin: Value): Value =>
    graph.node('RotaryEmbedding', [value, positions, tables.cos, sin], x.dims, {
      domain: MICROSOFT_DOMAIN,
      attributes: { interleaved: int(0) },
    });
  return graph.record([x], rotate(x, tables.sin), (dy) => [added(graph, () => rotate(dy, tables.negativeSin))]);
}
