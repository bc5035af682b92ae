/** 4-bit matrices as inputs of a graph: their declaration, and what is fed to it. */
import type { Graph, Value } from '../graph/graph.ts';
import { codeTable, type QuantizedValue, ZERO_CODE } from '../graph/ops/quantized.ts';
import { type Feeds, floatTensor, uint16Tensor } from '../graph/session.ts';
import type { QuantizedTensor } from '../types.ts';

const codesName = (name: string): string => `${name}:codes`;
const scalesName = (name: string): string => `${name}:scales`;
const minsName = (name: string): string => `${name}:mins`;

/**
 * Declares a matrix as inputs; only its shape and kind are read.
 * @param tables by code of zero: shared by the matrices of a graph
 */
export function quantizedInput(
  graph: Graph,
  name: string,
  { dims, blockSize, mins }: QuantizedTensor,
  tables: Map<number, Value>,
): QuantizedValue {
  const zero = mins === undefined ? ZERO_CODE : 0;
  const table = tables.get(zero) ?? codeTable(graph, zero);
  tables.set(zero, table);
  const blocks = (dims[0] * dims[1]) / blockSize;
  return {
    dims,
    blockSize,
    codes: graph.input(codesName(name), [(dims[0] * dims[1]) / 4], 'uint16'),
    scales: graph.input(scalesName(name), [blocks, 1]),
    ...(mins && { mins: graph.input(minsName(name), [blocks, 1]) }),
    table,
  };
}

/** Codes four by four. Shares the bytes unless they lie at an odd place, as parts of a file may. */
function words(codes: Uint8Array): Uint16Array {
  const aligned = codes.byteOffset % Uint16Array.BYTES_PER_ELEMENT === 0 ? codes : codes.slice();
  return new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / Uint16Array.BYTES_PER_ELEMENT);
}

/** What is fed for one matrix: its codes, scales and minima, none of them copied. */
export function quantizedFeeds(name: string, { codes, scales, mins }: QuantizedTensor): Feeds {
  return {
    [codesName(name)]: uint16Tensor(words(codes), [codes.length / Uint16Array.BYTES_PER_ELEMENT]),
    [scalesName(name)]: floatTensor(scales, [scales.length, 1]),
    ...(mins && { [minsName(name)]: floatTensor(mins, [mins.length, 1]) }),
  };
}
