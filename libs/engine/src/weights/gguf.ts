/**
 * The GGUF container: typed metadata, then tensors by name, shape, type and place. Versions 2 and 3, little-endian.
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
import { open } from 'node:fs/promises';
import { EngineError } from '../errors.ts';
import { fileSource, type ByteSource } from './byteSource.ts';

export const GGUF_MAGIC = 0x46554747;
const VERSIONS: readonly number[] = [2, 3];
export const GGUF_DEFAULT_ALIGNMENT = 32;
/** Vocabularies take a few megabytes; a longer header is a damaged or hostile file. */
const MAX_HEADER_BYTES = 256 * 1024 * 1024;
/** What is read at first; doubled until the header is whole. */
const FIRST_READ_BYTES = 1024 * 1024;
const MAX_ENTRIES = 100_000;
const MAX_DIMS = 4;
const MAX_KEY_BYTES = 65_535;

/** A metadata value. 64-bit integers are numbers where they are exact, and refused where not. */
export type GgufValue = number | boolean | string | readonly GgufValue[];
export type GgufMetadata = ReadonlyMap<string, GgufValue>;

/** Tensor types by the number they have in files: `[name, values of a block, bytes of a block]`. */
const TENSOR_TYPES = {
  0: ['F32', 1, 4],
  1: ['F16', 1, 2],
  2: ['Q4_0', 32, 18],
  3: ['Q4_1', 32, 20],
  6: ['Q5_0', 32, 22],
  7: ['Q5_1', 32, 24],
  8: ['Q8_0', 32, 34],
  12: ['Q4_K', 256, 144],
  13: ['Q5_K', 256, 176],
  14: ['Q6_K', 256, 210],
  30: ['BF16', 1, 2],
} as const;

type TypeRow = (typeof TENSOR_TYPES)[keyof typeof TENSOR_TYPES];
/** A type whose tensors can be read. */
export type GgufTensorType = TypeRow[0];

const TYPE_BY_ID = new Map<number, TypeRow>(Object.entries(TENSOR_TYPES).map(([id, row]) => [Number(id), row]));
const ID_BY_NAME = new Map<GgufTensorType, number>(
  Object.entries(TENSOR_TYPES).map(([id, [name]]) => [name, Number(id)]),
);

/** The number of a tensor type in a file. */
export function ggufTypeId(type: GgufTensorType): number {
  return ID_BY_NAME.get(type)!;
}

/** Other types of the format, so that a refusal can name them. */
const OTHER_TYPES: Record<number, string> = {
  9: 'Q8_1',
  10: 'Q2_K',
  11: 'Q3_K',
  15: 'Q8_K',
  16: 'IQ2_XXS',
  17: 'IQ2_XS',
  18: 'IQ3_XXS',
  19: 'IQ1_S',
  20: 'IQ4_NL',
  21: 'IQ3_S',
  22: 'IQ2_S',
  23: 'IQ4_XS',
  24: 'I8',
  25: 'I16',
  26: 'I32',
  27: 'I64',
  28: 'F64',
  29: 'IQ1_M',
  34: 'TQ1_0',
  35: 'TQ2_0',
  39: 'MXFP4',
};

export interface GgufTensorInfo {
  readonly name: string;
  /** Row-major: outermost first, `[out, in]` of a matrix (the file has them the other way round). */
  readonly dims: readonly number[];
  readonly type: GgufTensorType;
  /** Values of a block, which lie in one row, and its bytes. */
  readonly blockSize: number;
  readonly blockBytes: number;
  /** In bytes from the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
}

export interface GgufHeader {
  readonly version: number;
  readonly metadata: GgufMetadata;
  readonly tensors: ReadonlyMap<string, GgufTensorInfo>;
}

function damaged(path: string, why: string): EngineError {
  return new EngineError('engine.weights.damaged', `${path} is not a valid GGUF file: ${why}`);
}

/** The header goes on after the bytes that have been read. */
class Incomplete extends Error {}

/** Metadata types by number; the widths of those of fixed size. */
const WIDTHS: readonly number[] = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
const STRING = 8;
const ARRAY = 9;

/** Reads the fields of a header one after the other. */
class HeaderCursor {
  readonly path: string;
  at = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #text = new TextDecoder();

  constructor(path: string, bytes: Uint8Array) {
    this.path = path;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  #take(bytes: number): number {
    const start = this.at;
    if (start + bytes > this.#bytes.byteLength) throw new Incomplete();
    this.at += bytes;
    return start;
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  #exact(value: bigint): number {
    if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < BigInt(Number.MIN_SAFE_INTEGER)) {
      throw damaged(this.path, `the number ${value} is too large`);
    }
    return Number(value);
  }

  u64(): number {
    return this.#exact(this.#view.getBigUint64(this.#take(8), true));
  }

  /** A count of things of at least `bytesEach`, held against the longest header there may be. */
  count(what: string, bytesEach: number): number {
    const value = this.u64();
    if (value * bytesEach > MAX_HEADER_BYTES) throw damaged(this.path, `it claims ${value} ${what}`);
    return value;
  }

  string(limit = MAX_HEADER_BYTES): string {
    const length = this.u64();
    if (length > limit) throw damaged(this.path, `a text in its header has ${length} bytes`);
    const start = this.#take(length);
    return this.#text.decode(this.#bytes.subarray(start, start + length));
  }

  value(type: number): GgufValue {
    if (type === STRING) return this.string();
    if (type === ARRAY) return this.#array();
    const width = WIDTHS[type];
    if (width === undefined) throw damaged(this.path, `metadata type ${type} is not known`);
    const at = this.#take(width);
    const view = this.#view;
    switch (type) {
      case 0:
        return view.getUint8(at);
      case 1:
        return view.getInt8(at);
      case 2:
        return view.getUint16(at, true);
      case 3:
        return view.getInt16(at, true);
      case 4:
        return view.getUint32(at, true);
      case 5:
        return view.getInt32(at, true);
      case 6:
        return view.getFloat32(at, true);
      case 7:
        return view.getUint8(at) !== 0;
      case 10:
        return this.#exact(view.getBigUint64(at, true));
      case 11:
        return this.#exact(view.getBigInt64(at, true));
      default:
        return view.getFloat64(at, true);
    }
  }

  #array(): GgufValue[] {
    const type = this.u32();
    if (type === ARRAY) throw damaged(this.path, 'a metadata array holds arrays');
    const length = this.count('values in an array', type === STRING ? 8 : (WIDTHS[type] ?? 1));
    const values: GgufValue[] = [];
    for (let i = 0; i < length; i++) values.push(this.value(type));
    return values;
  }
}

function readTensorInfo(cursor: HeaderCursor): GgufTensorInfo {
  const name = cursor.string(MAX_KEY_BYTES);
  const rank = cursor.u32();
  if (rank < 1 || rank > MAX_DIMS) throw damaged(cursor.path, `tensor ${name} has ${rank} dimensions`);
  const dims = Array.from({ length: rank }, () => cursor.u64()).toReversed();
  const typeId = cursor.u32();
  const row = TYPE_BY_ID.get(typeId);
  if (row === undefined) {
    throw new EngineError(
      'engine.weights.unsupported_dtype',
      `tensor ${name} in ${cursor.path} has type ${OTHER_TYPES[typeId] ?? typeId}; supported are ` +
        [...ID_BY_NAME.keys()].join(', '),
    );
  }
  const [type, blockSize, blockBytes] = row;
  const values = dims.reduce((product, n) => product * n, 1);
  if (!Number.isSafeInteger(values) || dims.at(-1)! % blockSize !== 0) {
    throw damaged(cursor.path, `tensor ${name} is [${dims.join(', ')}], which ${type} cannot hold`);
  }
  return {
    name,
    dims,
    type,
    blockSize,
    blockBytes,
    offset: cursor.u64(),
    byteLength: (values / blockSize) * blockBytes,
  };
}

function parseHeader(path: string, bytes: Uint8Array, fileSize: number): GgufHeader {
  const cursor = new HeaderCursor(path, bytes);
  if (cursor.u32() !== GGUF_MAGIC) throw damaged(path, 'it does not begin with GGUF');
  const version = cursor.u32();
  if (!VERSIONS.includes(version)) {
    throw new EngineError(
      'engine.weights.unsupported_version',
      `${path} is GGUF version ${version}; supported are little-endian ${VERSIONS.join(' and ')}`,
    );
  }
  const tensorCount = cursor.u64();
  const entryCount = cursor.u64();
  if (tensorCount > MAX_ENTRIES || entryCount > MAX_ENTRIES) {
    throw damaged(path, `it claims ${tensorCount} tensors and ${entryCount} metadata entries`);
  }
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < entryCount; i++) {
    const key = cursor.string(MAX_KEY_BYTES);
    metadata.set(key, cursor.value(cursor.u32()));
  }
  const relative = Array.from({ length: tensorCount }, () => readTensorInfo(cursor));
  const alignment = metadata.get('general.alignment') ?? GGUF_DEFAULT_ALIGNMENT;
  if (typeof alignment !== 'number' || !(alignment >= 8) || alignment % 8 !== 0) {
    throw damaged(path, 'general.alignment is no multiple of 8');
  }
  const dataStart = Math.ceil(cursor.at / alignment) * alignment;
  const tensors = new Map<string, GgufTensorInfo>();
  for (const info of relative) {
    const offset = dataStart + info.offset;
    if (offset + info.byteLength > fileSize) throw damaged(path, `tensor ${info.name} lies outside the file`);
    tensors.set(info.name, { ...info, offset });
  }
  return { version, metadata, tensors };
}

/**
 * Reads the header alone: a few megabytes (the vocabulary) even of a file of many gigabytes.
 * @throws EngineError `engine.weights.damaged`, `engine.weights.unsupported_version`, `engine.weights.unsupported_dtype`
 */
export async function readGgufHeader(source: ByteSource): Promise<GgufHeader> {
  for (let length = FIRST_READ_BYTES; ; length *= 2) {
    const bytes = new Uint8Array(Math.min(length, source.size, MAX_HEADER_BYTES));
    await source.read(bytes, 0);
    try {
      return parseHeader(source.name, bytes, source.size);
    } catch (error) {
      if (!(error instanceof Incomplete)) throw error;
      if (bytes.byteLength === source.size) throw damaged(source.name, 'it ends within its header');
      if (bytes.byteLength === MAX_HEADER_BYTES) throw damaged(source.name, 'its header is too long');
    }
  }
}

/** Opens a GGUF file for as long as `use` needs it. @throws EngineError also `engine.model.missing_file` */
export async function withGgufFile<T>(
  path: string,
  use: (header: GgufHeader, source: ByteSource) => Promise<T>,
): Promise<T> {
  let file;
  try {
    file = await open(path);
  } catch (cause) {
    throw new EngineError('engine.model.missing_file', `cannot read ${path}`, { cause });
  }
  await using handle = file;
  const source = await fileSource(handle, path);
  return await use(await readGgufHeader(source), source);
}
