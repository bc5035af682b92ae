/**
 * GGUF's tensor types as floats, by the formulas of ggml's reference code (`ggml-quants.c`), and the 4-bit ones as the
 * engine's own 4-bit blocks, exactly. A block holds neighbouring inputs of one row.
 */
import { EngineError } from '../errors.ts';
import type { QuantizedTensor, Tensor } from '../types.ts';
import type { ByteSource } from './byteSource.ts';
import { bfloat16ToFloat32, halfToFloat32 } from './floats.ts';
import type { GgufTensorInfo, GgufTensorType } from './gguf.ts';

/** Decodes the block that begins at `at` into `out[to..]`. */
type BlockDecoder = (bytes: Uint8Array, at: number, out: Float32Array, to: number) => void;

let halves: Float32Array | undefined;

/** The half-precision number at a byte offset, from a table of all of them. */
function half(bytes: Uint8Array, at: number): number {
  halves ??= halfToFloat32(Uint16Array.from({ length: 0x10000 }, (_, i) => i));
  return halves[bytes[at]! | (bytes[at + 1]! << 8)]!;
}

const signed = (byte: number): number => (byte << 24) >> 24;

/** 32 values: half scale d, half minimum m or a middle to take off, low nibbles first; `high` bits in Q5. */
function legacy(min: boolean, high: boolean): BlockDecoder {
  const middle = min ? 0 : high ? 16 : 8;
  return (bytes, at, out, to) => {
    const d = half(bytes, at);
    const m = min ? half(bytes, at + 2) : 0;
    const bits = at + (min ? 4 : 2);
    const nibbles = bits + (high ? 4 : 0);
    for (let i = 0; i < 32; i++) {
      const byte = bytes[nibbles + (i & 15)]!;
      let q = i < 16 ? byte & 15 : byte >> 4;
      if (high) q |= ((bytes[bits + (i >> 3)]! >> (i & 7)) & 1) << 4;
      const value = d * (q - middle);
      out[to + i] = min ? Math.fround(value) + m : value;
    }
  };
}

const q8: BlockDecoder = (bytes, at, out, to) => {
  const d = half(bytes, at);
  for (let i = 0; i < 32; i++) out[to + i] = d * signed(bytes[at + 2 + i]!);
};

/** Scale and minimum of one of the eight parts of a K block: 6 bits each, packed into 12 bytes. */
function scaleAndMin(bytes: Uint8Array, at: number, part: number): readonly [scale: number, min: number] {
  if (part < 4) return [bytes[at + part]! & 63, bytes[at + part + 4]! & 63];
  const low = bytes[at + part + 4]!;
  return [(low & 15) | ((bytes[at + part - 4]! >> 6) << 4), (low >> 4) | ((bytes[at + part]! >> 6) << 4)];
}

/** 256 values in eight parts: d and dmin, the packed scales, for Q5 a fifth bit of every value, then nibbles. */
function kBlock(high: boolean): BlockDecoder {
  return (bytes, at, out, to) => {
    const d = half(bytes, at);
    const dmin = half(bytes, at + 2);
    const nibbles = at + 16 + (high ? 32 : 0);
    for (let part = 0; part < 8; part++) {
      const [scale, min] = scaleAndMin(bytes, at + 4, part);
      const step = d * scale;
      const offset = dmin * min;
      for (let i = 0; i < 32; i++) {
        const byte = bytes[nibbles + (part >> 1) * 32 + i]!;
        let q = part & 1 ? byte >> 4 : byte & 15;
        if (high) q |= ((bytes[at + 16 + i]! >> part) & 1) << 4;
        out[to + part * 32 + i] = Math.fround(step * q) - offset;
      }
    }
  };
}

/** 256 values: low nibbles [128], high pairs of bits [64], 16 signed scales, d. */
const q6k: BlockDecoder = (bytes, at, out, to) => {
  const d = half(bytes, at + 208);
  for (let i = 0; i < 256; i++) {
    const group = i >> 7;
    const within = i & 127;
    const low = bytes[at + group * 64 + (within & 63)]!;
    const nibble = within < 64 ? low & 15 : low >> 4;
    const pair = (bytes[at + 128 + group * 32 + (within & 31)]! >> ((within >> 5) * 2)) & 3;
    const scale = Math.fround(d * signed(bytes[at + 192 + (i >> 4)]!));
    out[to + i] = scale * ((nibble | (pair << 4)) - 32);
  }
};

const DECODERS: Partial<Record<GgufTensorType, BlockDecoder>> = {
  Q4_0: legacy(false, false),
  Q4_1: legacy(true, false),
  Q5_0: legacy(false, true),
  Q5_1: legacy(true, true),
  Q8_0: q8,
  Q4_K: kBlock(false),
  Q5_K: kBlock(true),
  Q6_K: q6k,
};

/** Row r of the result is row `rowOf(r)` of the file: how the Q and K rows of Llama files are put back. */
export type RowOrder = (row: number) => number;

async function readRows(source: ByteSource, info: GgufTensorInfo, order: RowOrder | undefined): Promise<Uint8Array> {
  const bytes = new Uint8Array(info.byteLength);
  await source.read(bytes, info.offset);
  if (order === undefined) return bytes;
  const rows = info.dims[0]!;
  const width = info.byteLength / rows;
  const ordered = new Uint8Array(info.byteLength);
  for (let row = 0; row < rows; row++) {
    const from = order(row) * width;
    ordered.set(bytes.subarray(from, from + width), row * width);
  }
  return ordered;
}

/** Reads one tensor as fp32; besides the result, its bytes in the file are held for a moment. */
export async function readGgufTensor(source: ByteSource, info: GgufTensorInfo, order?: RowOrder): Promise<Tensor> {
  const bytes = await readRows(source, info, order);
  const { dims, type, blockSize, blockBytes } = info;
  if (type === 'F32') return { dims, data: new Float32Array(bytes.buffer) };
  if (type === 'F16') return { dims, data: halfToFloat32(new Uint16Array(bytes.buffer)) };
  if (type === 'BF16') return { dims, data: bfloat16ToFloat32(new Uint16Array(bytes.buffer)) };
  const decode = DECODERS[type]!;
  const blocks = bytes.byteLength / blockBytes;
  const data = new Float32Array(blocks * blockSize);
  for (let block = 0; block < blocks; block++) decode(bytes, block * blockBytes, data, block * blockSize);
  return { dims, data };
}

/** The types that {@link readGgufQuantized} reads. */
export function isFourBit(type: GgufTensorType): boolean {
  return type === 'Q4_0' || type === 'Q4_1' || type === 'Q4_K';
}

/** Writes the 4-bit codes of 32 values as neighbouring pairs; the file has the low nibbles first, then the high ones. */
function pairCodes(bytes: Uint8Array, at: number, shift: 0 | 4 | undefined, codes: Uint8Array, to: number): void {
  const code = (i: number): number =>
    shift === undefined ? (i < 16 ? bytes[at + i]! & 15 : bytes[at + i - 16]! >> 4) : (bytes[at + i]! >> shift) & 15;
  for (let i = 0; i < 32; i += 2) codes[to + i / 2] = code(i) | (code(i + 1) << 4);
}

/**
 * Reads a Q4_0, Q4_1 or Q4_K matrix as 4-bit blocks of 32, which stand for exactly the values that
 * {@link readGgufTensor} gives: the scale and minimum of a part of a Q4_K block are exact in fp32.
 *
 * @throws EngineError `engine.weights.unsupported_dtype` for another type
 */
export async function readGgufQuantized(
  source: ByteSource,
  info: GgufTensorInfo,
  order?: RowOrder,
): Promise<QuantizedTensor> {
  const { type, blockBytes } = info;
  const [out, in_] = info.dims;
  if (!isFourBit(type) || info.dims.length !== 2 || out === undefined || in_ === undefined) {
    throw new EngineError('engine.weights.unsupported_dtype', `${info.name} (${type}) is no matrix in 4 bits`);
  }
  const bytes = await readRows(source, info, order);
  const blocks = (out * in_) / 32;
  const codes = new Uint8Array(blocks * 16);
  const scales = new Float32Array(blocks);
  const mins = type === 'Q4_0' ? undefined : new Float32Array(blocks);
  for (let block = 0; block < blocks; block++) {
    if (type === 'Q4_K') {
      const at = Math.floor(block / 8) * blockBytes;
      const part = block % 8;
      const [scale, min] = scaleAndMin(bytes, at + 4, part);
      scales[block] = half(bytes, at) * scale;
      mins![block] = -half(bytes, at + 2) * min;
      pairCodes(bytes, at + 16 + (part >> 1) * 32, part & 1 ? 4 : 0, codes, block * 16);
      continue;
    }
    const at = block * blockBytes;
    scales[block] = half(bytes, at);
    if (mins !== undefined) mins[block] = half(bytes, at + 2);
    pairCodes(bytes, at + (mins === undefined ? 2 : 4), undefined, codes, block * 16);
  }
  return { bits: 4, dims: [out, in_], blockSize: 32, codes, scales, ...(mins && { mins }) };
}
