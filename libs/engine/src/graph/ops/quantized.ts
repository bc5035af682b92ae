/** Products with matrices held in 4 bits (`QuantizedTensor`). The matrix is frozen: gradients go through it, not to it. */
import { type Contribution, type Graph, int, type Value } from '../graph.ts';
import { added, unbroadcast } from './arithmetic.ts';

/** Four codes fit in 16 bits; the runtime's tensors know no smaller unit that it can look up by. */
const CODES_PER_WORD = 4;
const WORDS = 2 ** 16;
/** The code that stands for zero in a matrix without minima. */
export const ZERO_CODE = 8;

/** A 4-bit matrix in a graph, `[out, in]`. */
export interface QuantizedValue {
  readonly dims: readonly [out: number, in_: number];
  readonly blockSize: number;
  /** uint16 `[out * in / 4]` */
  readonly codes: Value;
  /** `[out * in / blockSize, 1]` */
  readonly scales: Value;
  /** Like `scales`; absent: code 8 stands for zero. */
  readonly mins?: Value;
  /** What each word of four codes stands for before the scale: see `codeTable`. */
  readonly table: Value;
}

/** For every word of four codes their values less `zero`, `[65536, 4]`. One table serves all matrices of a graph. */
export function codeTable(graph: Graph, zero: number): Value {
  const table = new Float32Array(WORDS * CODES_PER_WORD);
  for (let word = 0; word < WORDS; word++) {
    for (let i = 0; i < CODES_PER_WORD; i++) table[word * CODES_PER_WORD + i] = ((word >> (4 * i)) & 15) - zero;
  }
  return graph.constant([WORDS, CODES_PER_WORD], table);
}

/**
 * Codes that cannot be had before `after`, a matrix. Nothing else orders the unpacking of the backward pass: the runtime
 * would do it at once with the forward pass's, or merge the two, and hold the floats of all layers in between.
 */
function codesAfter(graph: Graph, codes: Value, after: Value): Value {
  const none = graph.node('Slice', [after, graph.int64s([0, 0]), graph.int64s([0, 1])], [0, 1]);
  const zero = graph.node('ReduceSum', [none, graph.int64s([0])], [1], { attributes: { keepdims: int(0) } });
  const offset = graph.node('Cast', [zero], [1], { type: 'int64', attributes: { to: int(7) } });
  const shape = graph.node('Add', [offset, graph.int64s([codes.dims[0] as number])], [1], { type: 'int64' });
  return graph.node('Reshape', [codes, shape], codes.dims, { type: codes.type });
}

/**
 * The matrix as floats. A table look-up and a multiplication: measured 1.5 ns a weight on one core, where unpacking inside
 * MatMulNBits takes 2.4 and GatherBlockQuantized 8. No gradient is recorded.
 */
export function dequantized(graph: Graph, matrix: QuantizedValue, after?: Value): Value {
  const { dims, blockSize, scales, mins, table } = matrix;
  const codes = after === undefined ? matrix.codes : codesAfter(graph, matrix.codes, after);
  const words = codes.dims[0]!;
  const index = graph.node('Cast', [codes], [words], { type: 'int32', attributes: { to: int(6) } });
  const values = graph.node('Gather', [table, index], [words, CODES_PER_WORD], { attributes: { axis: int(0) } });
  const blockDims = [scales.dims[0]!, blockSize];
  const blocks = graph.node('Reshape', [values, graph.int64s([-1, blockSize])], blockDims);
  let scaled = graph.node('Mul', [blocks, scales], blockDims);
  if (mins !== undefined) scaled = graph.node('Add', [scaled, mins], blockDims);
  return graph.node('Reshape', [scaled, graph.int64s(dims)], dims);
}

/**
 * x W^T + c for a 4-bit W `[out, in]`: `x: [tokens, in]` gives `[tokens, out]`. The floats of W are made for the product and
 * dropped, and made again for the gradient dx = dy W.
 */
export function quantizedGemm(graph: Graph, x: Value, matrix: QuantizedValue, c?: Value): Value {
  const dims = [x.dims[0]!, matrix.dims[0]];
  const addend = c === undefined ? [] : [c];
  const y = graph.node('Gemm', [x, dequantized(graph, matrix), ...addend], dims, { attributes: { transB: int(1) } });
  return graph.record([x, ...addend], y, (dy) => {
    const throughMatrix: Contribution = (sum) =>
      graph.node('Gemm', [dy, dequantized(graph, matrix, dy), ...(sum === undefined ? [] : [sum])], x.dims);
    return [throughMatrix, added(graph, () => unbroadcast(graph, dy, c!.dims))];
  });
}
