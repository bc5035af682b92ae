/**
 * The saved state of a run: everything the remaining steps depend on besides the model, the data and the
 * hyper-parameters, so that a resumed run ends with the same bytes. Layout: magic, header length (uint32 little endian),
 * JSON header, then float32 arrays: parameters, first moments, second moments, reference, best parameters.
 */
import { createHash } from 'node:crypto';
import { EngineError } from '../errors.ts';
import type { ActivationPolicy, BaseModel, ExecutorEstimate, TokenIds } from '../types.ts';
import type { AdamW } from './adamw.ts';
import type { BestSoFar, EarlyStopping } from './earlyStopping.ts';

/** The fingerprint is the first field of the header. */
const STAMP_SEARCH_BYTES = 256;
const MAGIC = Buffer.from('TLTRAIN1');

export interface RunCounters {
  /** Optimiser steps done. */
  step: number;
  firstLoss: number;
  lastLoss: number;
}

interface Header extends RunCounters {
  readonly fingerprint: string;
  readonly lengths: readonly number[];
  readonly referenceLength: number;
  /** With early stopping, after the first evaluation; the parameters of that time then follow the references. */
  readonly best?: BestSoFar;
}

/** SHA-256 over what a state may only be resumed with. */
export function fingerprint(settings: unknown, arrays: Iterable<TokenIds | Float32Array | Uint8Array>): string {
  const hash = createHash('sha256').update(JSON.stringify(settings));
  for (const array of arrays) {
    const typed = ArrayBuffer.isView(array) ? array : Float64Array.from(array);
    hash.update(`:${typed.length}:`).update(new Uint8Array(typed.buffer, typed.byteOffset, typed.byteLength));
  }
  return hash.digest('hex');
}

/** The numbers of a model that a run does not change. */
export function* weightArrays(model: BaseModel): Generator<Float32Array | Uint8Array> {
  for (const { data } of model.weights.values()) yield data;
  for (const { codes, scales, mins } of model.quantized?.values() ?? []) {
    yield codes;
    yield scales;
    if (mins !== undefined) yield mins;
  }
}

function arraysOf(optimizer: AdamW): Float32Array[] {
  return [
    ...optimizer.parameters.map((p) => p.data),
    ...optimizer.moments.map((x) => x.m),
    ...optimizer.moments.map((x) => x.v),
  ];
}

export function encodeState(
  print: string,
  optimizer: AdamW,
  counters: RunCounters,
  references: readonly Float32Array[],
  stopping?: EarlyStopping,
): Uint8Array {
  const arrays = [...arraysOf(optimizer), ...references, ...(stopping?.values ?? [])];
  const header: Header = {
    fingerprint: print,
    lengths: optimizer.parameters.map((p) => p.data.length),
    referenceLength: references.reduce((n, r) => n + r.length, 0),
    ...(stopping?.best && { best: stopping.best }),
    ...counters,
  };
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(json.length);
  const bodies = arrays.map((a) => new Uint8Array(a.buffer, a.byteOffset, a.byteLength));
  return Buffer.concat([MAGIC, length, json, ...bodies]);
}

const STAMP = /^(whole-graph|layer-wise)(?:,(recompute|save))?:/;

/** Begins the fingerprint of a run: which executor a state must be resumed with. */
export function executorStamp({ executor, activations }: ExecutorEstimate): string {
  return `${[executor, ...(activations === undefined ? [] : [activations])].join()}:`;
}

/** The executor that made a state, if the bytes tell of one. */
export function executorOfState(bytes: Uint8Array): Pick<ExecutorEstimate, 'executor' | 'activations'> | undefined {
  const header = Buffer.from(bytes.subarray(0, STAMP_SEARCH_BYTES)).toString('latin1');
  const [, executor, activations] = STAMP.exec(/"fingerprint":"([^"]*)/.exec(header)?.[1] ?? '') ?? [];
  if (executor === undefined) return undefined;
  return {
    executor: executor as ExecutorEstimate['executor'],
    ...(activations === undefined ? {} : { activations: activations as ActivationPolicy }),
  };
}

const bad = (why: string): EngineError => new EngineError('engine.train.bad_state', `cannot resume: ${why}`);

/**
 * Reads a state into the optimiser, the references and the watch for early stopping, and gives its counters.
 * @throws EngineError `engine.train.bad_state`, leaving them untouched
 */
export function restoreState(
  bytes: Uint8Array,
  print: string,
  optimizer: AdamW,
  references: readonly Float32Array[],
  stopping?: EarlyStopping,
): RunCounters {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = MAGIC.length + 4;
  if (buffer.length < start || !buffer.subarray(0, MAGIC.length).equals(MAGIC)) throw bad('not a training state');
  const headerEnd = start + buffer.readUInt32LE(MAGIC.length);
  if (buffer.length < headerEnd) throw bad('the state is cut short');
  const header = JSON.parse(buffer.toString('utf8', start, headerEnd)) as Header;
  if (header.fingerprint !== print)
    throw bad('the state belongs to another model, other data, other hyper-parameters or another executor');
  const best = header.best === undefined ? [] : optimizer.parameters.map((p) => new Float32Array(p.data.length));
  const arrays = [...arraysOf(optimizer), ...references, ...best];
  const expected = arrays.reduce((n, a) => n + a.byteLength, headerEnd);
  if (buffer.length !== expected) throw bad(`${buffer.length} bytes instead of ${expected}`);
  let offset = headerEnd;
  for (const array of arrays) {
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(
      buffer.subarray(offset, offset + array.byteLength),
    );
    offset += array.byteLength;
  }
  if (header.best !== undefined) stopping?.resume(header.best, best);
  return { step: header.step, firstLoss: header.firstLoss, lastLoss: header.lastLoss };
}
