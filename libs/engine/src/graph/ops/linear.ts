/** Matrix products. */
import { type Contribution, float, type Graph, int, type Value } from '../graph.ts';
import { MICROSOFT_DOMAIN } from '../onnx.ts';
import { added, unbroadcast } from './arithmetic.ts';

export interface GemmOptions {
  readonly transA?: boolean;
  readonly transB?: boolean;
  /** Added to the product; broadcast to `[m, n]`. */
  readonly c?: Value;
}

function gemmNode(graph: Graph, a: Value, b: Value, options: GemmOptions): Value {
  const m = (options.transA ? a.dims[1] : a.dims[0])!;
  const n = (options.transB ? b.dims[0] : b.dims[1])!;
  const inputs = options.c === undefined ? [a, b] : [a, b, options.c];
  return graph.node('Gemm', inputs, [m, n], {
    attributes: { transA: int(options.transA ? 1 : 0), transB: int(options.transB ? 1 : 0) },
  });
}

/** A contribution that is a product: it accumulates in Gemm's C instead of a separate addition. */
export function product(graph: Graph, a: Value, b: Value, transA: boolean, transB: boolean): Contribution {
  return (sum) => gemmNode(graph, a, b, { transA, transB, ...(sum === undefined ? {} : { c: sum }) });
}

/**
 * op(a) op(b) + c for matrices, op being transposition where asked. With `transB`, weights stay as they are stored,
 * `[out, in]`.
 */
export function gemm(graph: Graph, a: Value, b: Value, options: GemmOptions = {}): Value {
  const y = gemmNode(graph, a, b, options);
  const ta = options.transA ?? false;
  const tb = options.transB ?? false;
  const inputs = options.c === undefined ? [a, b] : [a, b, options.c];
  return graph.record(inputs, y, (dy) => [
    ta ? product(graph, b, dy, tb, true) : product(graph, dy, b, false, !tb),
    tb ? product(graph, dy, a, true, ta) : product(graph, a, dy, !ta, false),
    added(graph, () => unbroadcast(graph, dy, options.c!.dims)),
  ]);
}

/** Batched product alpha op(a) op(b) over the last two axes; leading axes are equal. No gradient is recorded. */
export function batchedProduct(
  graph: Graph,
  a: Value,
  b: Value,
  options: { readonly transA?: boolean; readonly transB?: boolean; readonly alpha?: number } = {},
): Value {
  const rank = a.dims.length;
  const m = (options.transA ? a.dims[rank - 1] : a.dims[rank - 2])!;
  const n = (options.transB ? b.dims[rank - 2] : b.dims[rank - 1])!;
  return graph.node('FusedMatMul', [a, b], [...a.dims.slice(0, -2), m, n], {
    domain: MICROSOFT_DOMAIN,
    attributes: {
      transA: int(options.transA ? 1 : 0),
      transB: int(options.transB ? 1 : 0),
      alpha: float(options.alpha ?? 1),
    },
  });
}
