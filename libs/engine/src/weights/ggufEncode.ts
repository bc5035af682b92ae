/** Writes GGUF files, version 3: the header at once, then tensor after tensor, so that one of them is held at a time. */
import { open, rename, rm } from 'node:fs/promises';
import type { Tensor } from '../types.ts';
import { float32ToHalf } from './floats.ts';
import { GGUF_DEFAULT_ALIGNMENT, GGUF_MAGIC, ggufTypeId } from './gguf.ts';

const VERSION = 3;

/** Typed metadata values: what the format calls uint32, float32, bool, string and arrays of string, int32 and float32. */
export type GgufEntry =
  | { readonly key: string; readonly u32: number }
  | { readonly key: string; readonly f32: number }
  | { readonly key: string; readonly bool: boolean }
  | { readonly key: string; readonly text: string }
  | { readonly key: string; readonly texts: readonly string[] }
  | { readonly key: string; readonly i32s: readonly number[] }
  | { readonly key: string; readonly f32s: readonly number[] };

const TYPE = { u32: 4, i32: 5, f32: 6, bool: 7, text: 8, array: 9 } as const;

/** Types that are written. */
export type GgufWriteType = 'F32' | 'F16' | 'Q8_0';

/** One tensor to write; `load` gives its values, `[rows, columns]` or `[columns]`, when its turn comes. */
export interface GgufTensorSource {
  readonly name: string;
  readonly dims: readonly number[];
  readonly type: GgufWriteType;
  readonly load: () => Tensor;
}

const Q8_BLOCK = 32;
const Q8_BYTES = 34;

function byteLength(dims: readonly number[], type: GgufWriteType): number {
  const values = dims.reduce((product, n) => product * n, 1);
  if (type === 'Q8_0') return (values / Q8_BLOCK) * Q8_BYTES;
  return values * (type === 'F16' ? 2 : 4);
}

/** Blocks of 32 values: a half-precision scale, largest size / 127, then signed bytes rounded half away from zero. */
function encodeQ8(data: Float32Array): Uint8Array {
  const blocks = data.length / Q8_BLOCK;
  const out = new Uint8Array(blocks * Q8_BYTES);
  const scales = new Float32Array(blocks);
  for (let block = 0; block < blocks; block++) {
    const values = data.subarray(block * Q8_BLOCK, (block + 1) * Q8_BLOCK);
    const largest = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    const scale = Math.fround(largest / 127);
    scales[block] = scale;
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    for (let i = 0; i < Q8_BLOCK; i++) {
      const x = Math.fround(values[i]! * inverse);
      out[block * Q8_BYTES + 2 + i] = Math.sign(x) * Math.floor(Math.abs(x) + 0.5);
    }
  }
  const halves = new Uint8Array(float32ToHalf(scales).buffer);
  for (let block = 0; block < blocks; block++) out.set(halves.subarray(block * 2, block * 2 + 2), block * Q8_BYTES);
  return out;
}

function encodeTensor({ data }: Tensor, type: GgufWriteType): Uint8Array {
  if (type === 'Q8_0') return encodeQ8(data);
  if (type === 'F16') return new Uint8Array(float32ToHalf(data).buffer);
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

class HeaderWriter {
  readonly #parts: Uint8Array[] = [];
  length = 0;

  #push(part: Uint8Array): void {
    this.#parts.push(part);
    this.length += part.byteLength;
  }

  u32(value: number): void {
    this.#push(new Uint8Array(Uint32Array.of(value).buffer));
  }

  u64(value: number): void {
    this.#push(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
  }

  text(value: string): void {
    const bytes = new TextEncoder().encode(value);
    this.u64(bytes.byteLength);
    this.#push(bytes);
  }

  #array(type: number, length: number): void {
    this.u32(TYPE.array);
    this.u32(type);
    this.u64(length);
  }

  entry(entry: GgufEntry): void {
    this.text(entry.key);
    if ('u32' in entry) {
      this.u32(TYPE.u32);
      this.u32(entry.u32);
    } else if ('f32' in entry) {
      this.u32(TYPE.f32);
      this.#push(new Uint8Array(Float32Array.of(entry.f32).buffer));
    } else if ('bool' in entry) {
      this.u32(TYPE.bool);
      this.#push(Uint8Array.of(entry.bool ? 1 : 0));
    } else if ('text' in entry) {
      this.u32(TYPE.text);
      this.text(entry.text);
    } else if ('texts' in entry) {
      this.#array(TYPE.text, entry.texts.length);
      for (const text of entry.texts) this.text(text);
    } else if ('i32s' in entry) {
      this.#array(TYPE.i32, entry.i32s.length);
      this.#push(new Uint8Array(Int32Array.from(entry.i32s).buffer));
    } else {
      this.#array(TYPE.f32, entry.f32s.length);
      this.#push(new Uint8Array(Float32Array.from(entry.f32s).buffer));
    }
  }

  /** All of it, with zeros up to the alignment. */
  bytes(): Uint8Array {
    return Buffer.concat(this.#parts, aligned(this.length));
  }
}

const aligned = (length: number): number => Math.ceil(length / GGUF_DEFAULT_ALIGNMENT) * GGUF_DEFAULT_ALIGNMENT;

/** Writes a GGUF file by a rename, so that a reader never sees half of it. The same content gives the same bytes. */
export async function writeGguf(
  path: string,
  entries: readonly GgufEntry[],
  tensors: readonly GgufTensorSource[],
): Promise<void> {
  const header = new HeaderWriter();
  header.u32(GGUF_MAGIC);
  header.u32(VERSION);
  header.u64(tensors.length);
  header.u64(entries.length);
  for (const entry of entries) header.entry(entry);
  let offset = 0;
  for (const { name, dims, type } of tensors) {
    header.text(name);
    header.u32(dims.length);
    for (const dim of dims.toReversed()) header.u64(dim);
    header.u32(ggufTypeId(type));
    header.u64(offset);
    offset += aligned(byteLength(dims, type));
  }
  const temporary = `${path}.${process.pid}.partial`;
  try {
    await using file = await open(temporary, 'w');
    await file.appendFile(header.bytes());
    for (const { type, load } of tensors) {
      const bytes = encodeTensor(load(), type);
      await file.appendFile(bytes);
      await file.appendFile(new Uint8Array(aligned(bytes.byteLength) - bytes.byteLength));
    }
    await file.sync();
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await rename(temporary, path);
}
