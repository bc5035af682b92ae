/**
 * Products as decoding wants them: few tokens, large matrices, so what counts is to read each matrix once, as it lies.
 *
 * In steps, float weights stand on the left, W x^T. On the right the runtime would copy every matrix into another order at each run
 * (2 to 8 tokens take 1.7 times as long), and constants, which it copies once, would be held twice. On the left the matrix is
 * read in place and the tokens are what is copied; up to 16 of them cost what one costs. Over the
 * many tokens of a prompt the usual order is a fifth faster.
 *
 * 4-bit matrices are constants of the graph: only of constants does the runtime make the form in which its 8-bit integer
 * kernels read them (20 times faster), and lets go of the given one.
 */
import { type Graph, int, type Value } from '../graph/graph.ts';
import { MICROSOFT_DOMAIN } from '../graph/onnx.ts';
import { batchedProduct, gemm } from '../graph/ops/linear.ts';
import { transpose } from '../graph/ops/shape.ts';
import { type AdapterShape, EMBEDDING, HEAD, LlamaValues } from '../models/llama.ts';
import type { ModelConfig, QuantizedMap, QuantizedTensor } from '../types.ts';
import { ZERO_CODE } from '../graph/ops/quantized.ts';

/** Activations are rounded to 8-bit integers by blocks, products summed in 32 bits. */
const INT8_ACCURACY = 4;

/**
 * w x^T + c for `w: [out, in]`, `x: [tokens, in]`: `[out, tokens]`. Not by Gemm: the runtime would fuse its transposition into
 * it, and so put the matrix on the right again.
 */
function leftProduct(graph: Graph, w: Value, x: Value, c?: Value): Value {
  return plus(graph, batchedProduct(graph, w, x, { transB: true }), c);
}

const plus = (graph: Graph, x: Value, c: Value | undefined): Value =>
  c === undefined ? x : graph.node('Add', [x, c], x.dims);

const turned = (graph: Graph, x: Value): Value => transpose(graph, x, [1, 0]);

/** x W^T for a 4-bit matrix without its minima. */
function integerProduct(graph: Graph, x: Value, matrix: QuantizedTensor): Value {
  const [out, in_] = matrix.dims;
  const { blockSize } = matrix;
  const codes = graph.constant([out, in_ / blockSize, blockSize / 2], matrix.codes);
  const scales = graph.constant([matrix.scales.length], matrix.scales);
  return graph.node('MatMulNBits', [x, codes, scales], [x.dims[0]!, out], {
    domain: MICROSOFT_DOMAIN,
    attributes: {
      K: int(in_),
      N: int(out),
      bits: int(matrix.bits),
      block_size: int(blockSize),
      accuracy_level: int(INT8_ACCURACY),
    },
  });
}

/** What minima add to a product, `[out, tokens]`: each block's times the sum of the block's inputs. */
function minimaProduct(graph: Graph, x: Value, { dims, blockSize, scales, mins }: QuantizedTensor): Value | undefined {
  if (mins === undefined) return undefined;
  const [out, in_] = dims;
  // The kernel takes code 8 for zero.
  const offsets = mins.map((min, block) => min + ZERO_CODE * scales[block]!);
  const blocks = in_ / blockSize;
  const split = graph.node('Reshape', [x, graph.int64s([0, blocks, blockSize])], [x.dims[0]!, blocks, blockSize]);
  const sums = graph.node('ReduceSum', [split, graph.int64s([2])], [x.dims[0]!, blocks], {
    attributes: { keepdims: int(0) },
  });
  return leftProduct(graph, graph.constant([out, blocks], offsets), sums);
}

/** Prompts are many tokens at once, steps one for each row. */
export type DecoderForm = 'prompt' | 'step';

export class DecoderValues extends LlamaValues {
  readonly #form: DecoderForm;
  #scale: Value | undefined;

  constructor(
    graph: Graph,
    config: ModelConfig,
    positions: number,
    adapter: AdapterShape | undefined,
    quantized: QuantizedMap | undefined,
    form: DecoderForm,
  ) {
    super(graph, config, positions, adapter, quantized);
    this.#form = form;
  }

  override project(x: Value, module: string): Value {
    const { graph } = this;
    const name = `${module}.weight`;
    const matrix = this.quantized.get(name);
    const bias = this.weights.get(`${module}.bias`);
    if (matrix === undefined) {
      if (this.#form === 'prompt') return super.project(x, module);
      const column = bias && graph.node('Unsqueeze', [bias, graph.int64s([1])], [bias.dims[0]!, 1]);
      return turned(graph, this.#adapted(x, module, leftProduct(graph, this.weight(name), x, column))!);
    }
    let y = integerProduct(graph, x, matrix);
    const rest = this.#adapted(x, module, minimaProduct(graph, x, matrix));
    if (rest !== undefined) y = graph.node('Add', [y, turned(graph, rest)], y.dims);
    return bias === undefined ? y : graph.node('Add', [y, bias], y.dims);
  }

  /** `sum: [out, tokens]` and the adapter's share of a projection. */
  #adapted(x: Value, module: string, sum: Value | undefined): Value | undefined {
    const adapter = this.adapters.get(module);
    if (adapter === undefined || this.loraScale === undefined) return sum;
    const low = leftProduct(this.graph, adapter.a, x);
    this.#scale ??= turned(this.graph, this.loraScale);
    const scaled = this.graph.node('Mul', [low, this.#scale], low.dims);
    return plus(this.graph, batchedProduct(this.graph, adapter.b, scaled), sum);
  }

  /** `[tokens, vocab]` of states after the final norm. */
  logits(x: Value): Value {
    const matrix = this.quantized.get(HEAD);
    if (matrix === undefined) {
      const head = this.weight(this.config.tieWordEmbeddings ? EMBEDDING : HEAD);
      if (this.#form === 'prompt') return gemm(this.graph, x, head, { transB: true });
      return turned(this.graph, leftProduct(this.graph, head, x));
    }
    const y = integerProduct(this.graph, x, matrix);
    const minima = minimaProduct(this.graph, x, matrix);
    return minima === undefined ? y : this.graph.node('Add', [y, turned(this.graph, minima)], y.dims);
  }
}
