/**
 * 4-bit weights by blocks of one row: made from float weights, read back as floats. The layout is that of ONNX Runtime's
 * MatMulNBits and of a `uint4` tensor, so the same bytes are fed to products in both directions.
 */
import { EngineError } from '../errors.ts';
import type { BaseModel, QuantizedTensor, Tensor, Weight, WeightMap } from '../types.ts';
import { ZERO_CODE } from '../graph/ops/quantized.ts';
import { EMBEDDING, HEAD, matrixNames } from '../models/llama.ts';

/** What the runtime's kernels take. */
const BLOCK_SIZES: readonly number[] = [16, 32, 64, 128, 256];
const DEFAULT_BLOCK_SIZE = 32;
const TOP_CODE = 15;

export interface QuantizeOptions {
  /** Only 4. */
  readonly bits?: 4;
  /** Inputs that share a scale: 16, 32, 64, 128 or 256 (default 32). */
  readonly blockSize?: number;
  /** Give each block a minimum too: about a tenth less error for a fifth more memory (default false). */
  readonly mins?: boolean;
}

export interface QuantizeModelOptions extends QuantizeOptions {
  /** Also the output head. A tied embedding is kept as floats for look-ups beside it (default false). */
  readonly head?: boolean;
  /** Take each float matrix out of the given model once it is read, so that both are never held whole (default false). */
  readonly consume?: boolean;
}

export function isQuantized(weight: Weight): weight is QuantizedTensor {
  return 'codes' in weight;
}

function checkedBlockSize(options: QuantizeOptions): number {
  const { bits = 4, blockSize = DEFAULT_BLOCK_SIZE } = options;
  if (bits !== 4) throw new EngineError('engine.quantize.bad_options', `bits must be 4, found ${String(bits)}`);
  if (!BLOCK_SIZES.includes(blockSize)) {
    throw new EngineError(
      'engine.quantize.bad_options',
      `blockSize must be one of ${BLOCK_SIZES.join(', ')}, found ${blockSize}`,
    );
  }
  return blockSize;
}

/** Scale and minimum of a block, and the code of each value: the nearest of the sixteen. */
function encodeBlock(block: Float32Array, withMin: boolean, codes: Uint8Array): { scale: number; min: number } {
  let low = Infinity;
  let high = -Infinity;
  let total = 0;
  for (const w of block) {
    if (w < low) low = w;
    if (w > high) high = w;
    total += w;
  }
  if (!Number.isFinite(total)) {
    throw new EngineError(
      'engine.quantize.not_finite',
      'a weight is not a finite number: it cannot be rounded to 4 bits',
    );
  }
  let scale: number;
  let min: number;
  if (withMin) {
    scale = Math.fround((high - low) / TOP_CODE);
    min = low;
  } else {
    // As GGUF's Q4_0: the value of largest size is code 0, so that it is met exactly whatever its sign.
    const extreme = -low > high ? low : high;
    scale = Math.fround(extreme / -ZERO_CODE);
    min = -ZERO_CODE * scale;
  }
  const inverse = scale === 0 ? 0 : 1 / scale;
  for (let i = 0; i < block.length; i++) {
    const code = scale === 0 ? ZERO_CODE : Math.round((block[i]! - min) * inverse);
    codes[i] = Math.min(TOP_CODE, Math.max(0, code));
  }
  return { scale, min };
}

/**
 * Rounds a matrix `[out, in]` to 4 bits.
 * @throws EngineError `engine.quantize.bad_options`, `engine.quantize.not_finite`, or `engine.quantize.wrong_shape` when `in` is no
 * multiple of the block
 */
export function quantizeTensor(tensor: Tensor, options: QuantizeOptions = {}): QuantizedTensor {
  const blockSize = checkedBlockSize(options);
  const [out, in_] = tensor.dims;
  if (tensor.dims.length !== 2 || out === undefined || in_ === undefined || in_ % blockSize !== 0) {
    throw new EngineError(
      'engine.quantize.wrong_shape',
      `[${tensor.dims.join(', ')}] cannot be cut into blocks of ${blockSize} inputs: choose a smaller blockSize`,
    );
  }
  const blocks = tensor.data.length / blockSize;
  const codes = new Uint8Array(tensor.data.length / 2);
  const scales = new Float32Array(blocks);
  const mins = options.mins === true ? new Float32Array(blocks) : undefined;
  const blockCodes = new Uint8Array(blockSize);
  for (let block = 0; block < blocks; block++) {
    const from = block * blockSize;
    const { scale, min } = encodeBlock(tensor.data.subarray(from, from + blockSize), mins !== undefined, blockCodes);
    scales[block] = scale;
    if (mins !== undefined) mins[block] = min;
    for (let i = 0; i < blockSize; i += 2) codes[(from + i) / 2] = blockCodes[i]! | (blockCodes[i + 1]! << 4);
  }
  return { bits: 4, dims: [out, in_], blockSize, codes, scales, ...(mins && { mins }) };
}

/** The floats that 4-bit codes stand for, `[out, in]`. */
export function dequantizeTensor(tensor: QuantizedTensor): Tensor {
  const { blockSize, codes, scales, mins } = tensor;
  const data = new Float32Array(codes.length * 2);
  for (let block = 0; block < scales.length; block++) {
    const scale = scales[block]!;
    const zero = mins === undefined ? ZERO_CODE : 0;
    const min = mins?.[block] ?? 0;
    for (let i = block * blockSize; i < (block + 1) * blockSize; i += 2) {
      const pair = codes[i / 2]!;
      data[i] = scale * ((pair & 15) - zero) + min;
      data[i + 1] = scale * ((pair >> 4) - zero) + min;
    }
  }
  return { dims: tensor.dims, data };
}

/**
 * A model whose projections, and head if asked, are held in 4 bits (block-wise round to nearest). Embeddings, norms and
 * biases stay floats and are shared with the given model. Matrix by matrix: besides both models, one matrix's codes are held;
 * with `consume`, a float matrix of the given model is let go once it is read.
 *
 * @throws EngineError `engine.quantize.bad_options`, or `engine.quantize.wrong_shape` with the name of the matrix
 */
export function quantizeModel(model: BaseModel, options: QuantizeModelOptions = {}): BaseModel {
  checkedBlockSize(options);
  const weights: WeightMap = new Map(model.weights);
  const quantized = new Map(model.quantized);
  const { config } = model;
  const encode = (name: string, source: string): void => {
    const tensor = model.weights.get(source);
    if (tensor === undefined) {
      if (quantized.has(name)) return; // Read from a quantised file.
      throw new EngineError('engine.weights.missing', `the model has no weight ${source}`);
    }
    try {
      quantized.set(name, quantizeTensor(tensor, options));
    } catch (cause) {
      if (!(cause instanceof EngineError)) throw cause;
      throw new EngineError(cause.code, `${name}: ${cause.message}`, { cause });
    }
    if (source !== name) return;
    weights.delete(name);
    if (options.consume === true) model.weights.delete(name);
  };
  for (const name of matrixNames(config)) {
    if (name !== HEAD) encode(name, name);
    else if (options.head === true) encode(name, config.tieWordEmbeddings ? EMBEDDING : HEAD);
  }
  return { config, weights, quantized };
}

/** The same model with every 4-bit matrix as floats. A tied head with 4-bit codes of its own becomes an untied one. */
export function dequantizeModel(model: BaseModel): BaseModel {
  const weights: WeightMap = new Map(model.weights);
  for (const [name, tensor] of model.quantized ?? []) weights.set(name, dequantizeTensor(tensor));
  const tieWordEmbeddings = model.config.tieWordEmbeddings && !weights.has(HEAD);
  return { config: { ...model.config, tieWordEmbeddings }, weights };
}
