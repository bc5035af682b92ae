/** What a graph costs to run, told from its nodes before anything is compiled. */
import type { Dim, ElementType, Graph, Value } from './graph.ts';

/** Sizes that a graph knows by name; that of `*` stands for names not given. */
export type Sizes = ReadonlyMap<string, number>;

const ELEMENT_BYTES: Readonly<Record<ElementType, number>> = {
  float32: 4,
  int64: 8,
  int32: 4,
  uint16: 2,
  uint8: 1,
  bool: 1,
};

/** Results that are views of their input. */
const VIEWS = new Set(['Identity', 'Reshape', 'Unsqueeze', 'Squeeze']);
/** Results that the runtime writes over an input of the same size which nothing else reads. */
const IN_PLACE = new Set(['Add', 'Mul', 'Sub', 'Neg', 'Sigmoid', 'Softplus', 'Softmax', 'LogSoftmax', 'Cast']);

/** A size in numbers: `12`, `tokens`, `seq*3`, `picked/4` (rounded up). @throws for a name without a size. */
export function sizeOf(dim: Dim, sizes: Sizes): number {
  if (typeof dim === 'number') return dim;
  const known = sizes.get(dim);
  if (known !== undefined) return known;
  const parts = /^(.+)([*/])(\d+)$/.exec(dim);
  const other = sizes.get('*');
  if (parts === null && other !== undefined) return other;
  if (parts === null) throw new Error(`no size is given for the dimension ${dim}`);
  const base = sizeOf(parts[1]!, sizes);
  return parts[2] === '*' ? base * Number(parts[3]) : Math.ceil(base / Number(parts[3]));
}

function elementsOf(value: Value, sizes: Sizes): number {
  return value.dims.reduce<number>((n, dim) => n * sizeOf(dim, sizes), 1);
}

export function bytesOf(value: Value, sizes: Sizes): number {
  return elementsOf(value, sizes) * ELEMENT_BYTES[value.type];
}

/**
 * The most bytes that results in between hold at once when nodes run in the order they were added and each is freed after
 * its last use. Inputs, constants and outputs are not counted: whoever feeds and fetches them holds them.
 */
export function peakBytes(graph: Graph, sizes: Sizes): number {
  const operations = graph.operations();
  /** The value whose memory a view looks into. */
  const owner = new Map<string, string>();
  const ownerOf = (name: string): string => owner.get(name) ?? name;
  const lastUse = new Map<string, number>();
  operations.forEach(({ op, inputs, outputs }, i) => {
    for (const input of inputs) lastUse.set(ownerOf(input.name), i);
    const viewed = VIEWS.has(op) ? inputs[0] : undefined;
    if (viewed !== undefined) for (const output of outputs) owner.set(output.name, ownerOf(viewed.name));
  });
  const held = new Map<string, number>();
  let now = 0;
  let peak = 0;
  operations.forEach(({ op, inputs, outputs }, i) => {
    const dying = [...new Set(inputs.map((v) => ownerOf(v.name)))].filter((name) => lastUse.get(name) === i);
    for (const output of outputs) {
      if (owner.has(output.name) || !lastUse.has(output.name)) continue;
      const bytes = bytesOf(output, sizes);
      const reused = IN_PLACE.has(op) ? dying.find((name) => held.get(name) === bytes) : undefined;
      if (reused !== undefined) {
        held.delete(reused);
        now -= bytes;
      }
      held.set(output.name, bytes);
      now += bytes;
      peak = Math.max(peak, now);
    }
    for (const name of dying) {
      now -= held.get(name) ?? 0;
      held.delete(name);
    }
  });
  return peak;
}

const PRODUCTS = new Set(['Gemm', 'FusedMatMul', 'MatMul', 'MatMulNBits']);

/** Floating point operations of the graph's matrix products: 2 m n k each. */
export function productFlop(graph: Graph, sizes: Sizes): number {
  let flop = 0;
  for (const { op, inputs, outputs } of graph.operations()) {
    const [a] = inputs;
    const n = outputs[0]?.dims.at(-1);
    if (PRODUCTS.has(op) && a !== undefined && n !== undefined) flop += 2 * elementsOf(a, sizes) * sizeOf(n, sizes);
  }
  return flop;
}
