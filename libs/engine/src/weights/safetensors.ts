import { open, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EngineError } from '../errors.ts';
import { isJsonObject } from '../json.ts';
import type { Tensor, WeightMap } from '../types.ts';
import { fileSource, type ByteSource } from './byteSource.ts';
import { bfloat16ToFloat32, halfToFloat32 } from './floats.ts';

/** The bound of the format's reference implementation; a longer header is a damaged or hostile file. */
const MAX_HEADER_BYTES = 100_000_000;
/** A model split into more files than this is refused. */
const MAX_SHARDS = 1024;

const BYTES_PER_VALUE: Record<string, number> = { F32: 4, F16: 2, BF16: 2 };

/** One entry of a safetensors header. `dims` are `[rows, columns, …]`; offsets are bytes after the header. */
export interface SafetensorsEntry {
  dtype: string;
  dims: number[];
  begin: number;
  end: number;
}

export interface SafetensorsHeader {
  metadata: Record<string, string>;
  entries: Map<string, SafetensorsEntry>;
  /** Where the tensors begin in the file, in bytes. */
  dataStart: number;
}

function damaged(path: string, why: string): EngineError {
  return new EngineError('engine.weights.damaged', `${path} is not a valid safetensors file: ${why}`);
}

function isIndex(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function parseEntry(path: string, name: string, value: unknown, dataBytes: number): SafetensorsEntry {
  if (!isJsonObject(value)) throw damaged(path, `entry ${name} is not an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string') throw damaged(path, `entry ${name} has no dtype`);
  if (!Array.isArray(shape) || !shape.every(isIndex)) throw damaged(path, `entry ${name} has no valid shape`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isIndex)) {
    throw damaged(path, `entry ${name} has no valid data_offsets`);
  }
  const [begin = 0, end = 0]: number[] = offsets;
  if (begin > end || end > dataBytes) throw damaged(path, `entry ${name} lies outside the file`);
  const width = BYTES_PER_VALUE[dtype];
  const dims: number[] = shape;
  const values = dims.reduce((product, n) => product * n, 1);
  if (width !== undefined && values * width !== end - begin) {
    throw damaged(path, `entry ${name} is [${dims.join(', ')}] ${dtype} but has ${end - begin} bytes`);
  }
  return { dtype, dims, begin, end };
}

/** Parses the JSON of a safetensors header. `dataBytes` is what follows it in the file. */
function parseHeader(path: string, json: string, dataStart: number, dataBytes: number): SafetensorsHeader {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch (cause) {
    throw new EngineError('engine.weights.damaged', `${path} is not a valid safetensors file: its header is not JSON`, {
      cause,
    });
  }
  if (!isJsonObject(parsed)) throw damaged(path, 'its header is not an object');
  const metadata: Record<string, string> = {};
  const entries = new Map<string, SafetensorsEntry>();
  for (const [name, value] of Object.entries(parsed)) {
    if (name !== '__metadata__') {
      entries.set(name, parseEntry(path, name, value, dataBytes));
      continue;
    }
    if (!isJsonObject(value)) throw damaged(path, '__metadata__ is not an object');
    for (const [key, text] of Object.entries(value)) metadata[key] = String(text);
  }
  return { metadata, entries, dataStart };
}

async function readHeader(source: ByteSource): Promise<SafetensorsHeader> {
  if (source.size < 8) throw damaged(source.name, 'it is shorter than 8 bytes');
  const prefix = new Uint8Array(8);
  await source.read(prefix, 0);
  const length = new DataView(prefix.buffer).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES) || Number(length) > source.size - 8) {
    throw damaged(source.name, 'its header length is wrong');
  }
  const bytes = new Uint8Array(Number(length));
  await source.read(bytes, 8);
  const dataStart = 8 + Number(length);
  return parseHeader(source.name, new TextDecoder().decode(bytes), dataStart, source.size - dataStart);
}

async function readTensor(
  source: ByteSource,
  name: string,
  entry: SafetensorsEntry,
  dataStart: number,
): Promise<Tensor> {
  const width = BYTES_PER_VALUE[entry.dtype];
  if (width === undefined) {
    throw new EngineError(
      'engine.weights.unsupported_dtype',
      `tensor ${name} in ${source.name} has dtype ${entry.dtype}; supported are F32, F16 and BF16`,
    );
  }
  const values = (entry.end - entry.begin) / width;
  const raw = width === 4 ? new Float32Array(values) : new Uint16Array(values);
  await source.read(new Uint8Array(raw.buffer), dataStart + entry.begin);
  if (raw instanceof Float32Array) return { dims: entry.dims, data: raw };
  return { dims: entry.dims, data: entry.dtype === 'F16' ? halfToFloat32(raw) : bfloat16ToFloat32(raw) };
}

async function readTensors(source: ByteSource, names: Iterable<string> | undefined): Promise<WeightMap> {
  const { entries, dataStart } = await readHeader(source);
  const weights: WeightMap = new Map();
  for (const name of names ?? entries.keys()) {
    const entry = entries.get(name);
    if (entry === undefined) {
      throw new EngineError('engine.weights.missing', `${source.name} has no tensor named ${name}`);
    }
    weights.set(name, await readTensor(source, name, entry, dataStart));
  }
  return weights;
}

/**
 * Reads the header alone: names, shapes, dtypes and metadata, a few kilobytes even of a file of many gigabytes.
 * @throws EngineError `engine.weights.damaged`
 */
export async function readSafetensorsHeader(path: string): Promise<SafetensorsHeader> {
  await using file = await open(path);
  return await readHeader(await fileSource(file, path));
}

/**
 * Reads tensors as fp32 (F16 and BF16 are widened), each straight into its own array. The format:
 * https://huggingface.co/docs/safetensors
 *
 * @param names which tensors to read; all by default. Tensors of another dtype (I64 and the like) are refused only when asked for.
 * @throws EngineError `engine.weights.damaged`, `engine.weights.unsupported_dtype`, `engine.weights.missing`
 */
export async function readSafetensors(path: string, names?: Iterable<string>): Promise<WeightMap> {
  await using file = await open(path);
  return await readTensors(await fileSource(file, path), names);
}

/** {@link readSafetensors} for a file already in memory; `label` names it in errors. The tensors are copies. */
export async function decodeSafetensors(bytes: Uint8Array, label: string): Promise<WeightMap> {
  const read = async (target: Uint8Array, position: number): Promise<void> => {
    target.set(bytes.subarray(position, position + target.byteLength));
  };
  return await readTensors({ name: label, size: bytes.byteLength, read }, undefined);
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    (s) => s.isFile(),
    () => false,
  );
}

/**
 * The safetensors files of a model folder: `model.safetensors`, or the shards its `model.safetensors.index.json` names.
 * @throws EngineError `engine.weights.missing` when there is neither, `engine.weights.damaged` for a bad index
 */
export async function listWeightFiles(folder: string): Promise<string[]> {
  const single = join(folder, 'model.safetensors');
  if (await exists(single)) return [single];
  const indexPath = join(folder, 'model.safetensors.index.json');
  if (!(await exists(indexPath))) {
    throw new EngineError(
      'engine.weights.missing',
      `${folder} holds neither model.safetensors nor model.safetensors.index.json`,
    );
  }
  const index: unknown = JSON.parse(await readFile(indexPath, 'utf8'));
  const map = isJsonObject(index) ? index['weight_map'] : undefined;
  if (!isJsonObject(map)) throw new EngineError('engine.weights.damaged', `${indexPath} has no weight_map`);
  const shards = [...new Set(Object.values(map).map(String))].toSorted();
  if (shards.length > MAX_SHARDS || shards.some((name) => name.includes('/') || name.includes('\\'))) {
    throw new EngineError('engine.weights.damaged', `${indexPath} names files outside its folder or too many of them`);
  }
  return shards.map((name) => join(folder, name));
}

/**
 * Lays tensors out as a safetensors file in fp32. The bytes depend on the content alone: names are sorted, metadata too,
 * and the header is padded with spaces to a multiple of 8 bytes.
 */
export function encodeSafetensors(weights: WeightMap, metadata: Record<string, string> = {}): Uint8Array<ArrayBuffer> {
  const names = [...weights.keys()].toSorted();
  const header: Record<string, unknown> = {};
  const metadataKeys = Object.keys(metadata).toSorted();
  if (metadataKeys.length > 0) header['__metadata__'] = Object.fromEntries(metadataKeys.map((k) => [k, metadata[k]]));
  let offset = 0;
  for (const name of names) {
    const { dims, data } = weights.get(name)!;
    header[name] = { dtype: 'F32', shape: dims, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const headerBytes = Math.ceil(json.byteLength / 8) * 8;
  const out = new Uint8Array(8 + headerBytes + offset).fill(0x20, 8, 8 + headerBytes);
  new DataView(out.buffer).setBigUint64(0, BigInt(headerBytes), true);
  out.set(json, 8);
  let at = 8 + headerBytes;
  for (const name of names) {
    const { data } = weights.get(name)!;
    out.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return out;
}

/** Writes {@link encodeSafetensors} to a file, by a rename, so that a reader never sees half of it. */
export async function writeSafetensors(
  path: string,
  weights: WeightMap,
  metadata: Record<string, string> = {},
): Promise<void> {
  const temporary = `${path}.${process.pid}.partial`;
  await writeFile(temporary, encodeSafetensors(weights, metadata));
  await rename(temporary, path);
}
