/** 4-bit matrices as inputs of a graph: their declaration, and what is fed to it. */
import type { Graph, Value } from '../graph/graph.ts';
import { codeTable, type QuantizedValue, ZERO_CODE } from '../graph/ops/quantized.ts';
import { type Feeds, floatTensor, uint16Tensor } from '../graph/session.ts';
import type { QuantizedMap, QuantizedTensor } from '../types.ts';

const codesName = (name: string): string => `${name}:codes`;
const scalesName = (name: string): string => `${name}:scales`;
const minsName = (name: string): string => `${name}:mins`;

/** Declares the matrices that `names` picks out of `quantized` as inputs. The values they hold are not read. */
export function quantizedInputs(
  graph: Graph,
  quantized: QuantizedMap,
  names: Iterable<string>,
): Map<string, QuantizedValue> {
  const tables = new Map<number, Value>();
  const tableOf = (zero: number): Value => {
    const table = tables.get(zero) ?? codeTable(graph, zero);
    tables.set(zero, table);
    return table;
  };
  const values = new Map<string, QuantizedValue>();
  for (const name of names) {
    const tensor = quantized.get(name);
    if (tensor === undefined) continue;
    const { dims, blockSize, mins } = tensor;
    const blocks = (dims[0] * dims[1]) / blockSize;
    values.set(name, {
      dims,
      blockSize,
      codes: graph.input(codesName(name), [(dims[0] * dims[1]) / 4], 'uint16'),
      scales: graph.input(scalesName(name), [blocks, 1]),
      ...(mins && { mins: graph.input(minsName(name), [blocks, 1]) }),
      table: tableOf(mins === undefined ? ZERO_CODE : 0),
    });
  }
  return values;
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
