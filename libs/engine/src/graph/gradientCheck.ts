/** For tests: compares gradients with central differences of the graph's own forward pass. */
import { gradients } from './autodiff.ts';
import { Graph, type Value } from './graph.ts';
import { multiply, sum } from './ops/arithmetic.ts';
import { createSession, type Feeds, floatOutput, floatTensor, int64Tensor } from './session.ts';

/** A small deterministic generator (mulberry32): uniform in [0, 1). */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export function randomFloats(count: number, random: () => number, size = 1): Float32Array {
  return Float32Array.from({ length: count }, () => (random() * 2 - 1) * size);
}

export interface CheckSpec {
  /** Differentiated inputs. */
  readonly floats: Record<string, { readonly dims: readonly number[]; readonly data: Float32Array }>;
  readonly indices?: Record<string, { readonly dims: readonly number[]; readonly data: readonly number[] }>;
  /** Builds the checked value from the inputs by name. */
  readonly build: (graph: Graph, inputs: Record<string, Value>) => Value;
  readonly seed?: number;
}

const elements = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

/**
 * Largest relative error, over the inputs, of |gradient - differences| / (|gradient| + |differences|) by tensor norm.
 * The loss is the checked value's dot product with fixed random numbers, summed in double here, so that the difference
 * of two float32 losses keeps its digits.
 */
export async function gradientError(spec: CheckSpec): Promise<number> {
  const graph = new Graph();
  const inputs: Record<string, Value> = {};
  for (const [name, t] of Object.entries(spec.floats)) inputs[name] = graph.input(name, t.dims);
  for (const [name, t] of Object.entries(spec.indices ?? {})) inputs[name] = graph.input(name, t.dims, 'int64');
  const value = spec.build(graph, inputs);
  const random = uniform(spec.seed ?? 1);
  const cotangent = randomFloats(elements(value.dims as number[]), random);
  const loss = sum(graph, multiply(graph, value, graph.constant(value.dims as number[], cotangent)));
  const names = Object.keys(spec.floats);
  const grads = gradients(
    graph,
    loss,
    names.map((n) => inputs[n]!),
  );
  graph.output('checked', value);
  names.forEach((n, i) => graph.output(`d:${n}`, grads[i]!));
  const session = await createSession(graph, { threads: 1 });
  const feeds: Feeds = {};
  for (const [name, t] of Object.entries(spec.floats)) feeds[name] = floatTensor(t.data, t.dims);
  for (const [name, t] of Object.entries(spec.indices ?? {})) {
    feeds[name] = int64Tensor(BigInt64Array.from(t.data, BigInt), t.dims);
  }
  const evaluate = async (): Promise<number> => {
    const y = floatOutput(await session.run(feeds, ['checked']), 'checked');
    return y.reduce((total, v, i) => total + v * cotangent[i]!, 0);
  };
  const outputs = await session.run(feeds);
  let worst = 0;
  for (const name of names) {
    const data = spec.floats[name]!.data;
    const gradient = floatOutput(outputs, `d:${name}`);
    worst = Math.max(worst, await differenceError(data, gradient, evaluate));
  }
  await session.release();
  return worst;
}

/** Fourth-order central differences of `evaluate` over `data`, against `gradient`. */
export async function differenceError(
  data: Float32Array,
  gradient: Float32Array,
  evaluate: () => Promise<number>,
  step = 1 / 64,
): Promise<number> {
  if (gradient.length !== data.length) throw new Error(`gradient of ${gradient.length} for ${data.length} elements`);
  let error = 0;
  let norm = 0;
  for (let i = 0; i < data.length; i++) {
    const x = data[i]!;
    const at = async (offset: number): Promise<number> => {
      data[i] = x + offset;
      return evaluate();
    };
    const slope =
      (8 * ((await at(step)) - (await at(-step))) - (await at(2 * step)) + (await at(-2 * step))) / (12 * step);
    data[i] = x;
    const g = gradient[i]!;
    error += (slope - g) ** 2;
    norm += slope ** 2 + g ** 2;
  }
  return Math.sqrt(error / Math.max(norm, 1e-12));
}
