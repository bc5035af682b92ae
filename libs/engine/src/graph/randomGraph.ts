/** For tests: random graphs of random shapes, and how far their gradients are from differences in double precision. */
import { gradients } from './autodiff.ts';
import { Graph, type Value } from './graph.ts';
import { randomFloats, uniform } from './gradientCheck.ts';
import { type Dense, graphOps, type Ops, referenceOps } from './referenceOps.ts';
import { createSession, type Feeds, floatOutput, floatTensor } from './session.ts';

const MAX_DIM = 4;
/** Values beyond it are scaled down, so that float32 keeps its digits. */
const MAX_VALUE = 4;
/** Nothing may be so near a bend of relu: differences would straddle it. */
const BEND = 0.01;
const STEP = 1e-4;

type Apply = <T>(ops: Ops<T>, values: readonly T[]) => T;
type Node = { readonly dims: readonly number[]; readonly name: string } & (
  | { readonly input: Float32Array }
  | { readonly apply: Apply; readonly from: readonly number[] }
);

const size = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

/** A graph in the making: nodes in order, each from nodes before it. Values are kept, to choose what fits. */
class Sketch {
  readonly nodes: Node[] = [];
  readonly #values: Dense[] = [];
  readonly #random: () => number;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** An integer below `n`. */
  below(n: number): number {
    return Math.floor(this.#random() * n);
  }

  shape(rank: number): number[] {
    return Array.from({ length: rank }, () => 1 + this.below(MAX_DIM));
  }

  input(dims: readonly number[]): number {
    const data = randomFloats(size(dims), this.#random, 0.9);
    this.#values.push({ dims, data: Float64Array.from(data) });
    return this.nodes.push({ dims, name: `input${this.nodes.length}`, input: data }) - 1;
  }

  step(name: string, from: readonly number[], apply: Apply): number {
    const value = apply(referenceOps, this.#values);
    this.#values.push(value);
    const made = this.nodes.push({ dims: value.dims, name, apply, from }) - 1;
    const largest = value.data.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    return largest <= MAX_VALUE ? made : this.step('scale', [made], (ops, v) => ops.scale(v[made]!, 1 / largest));
  }

  dims(node: number): readonly number[] {
    return this.nodes[node]!.dims;
  }

  isBent(node: number): boolean {
    return this.#values[node]!.data.some((x) => Math.abs(x) < BEND);
  }

  /** A node of a rank, an older one reshaped to it. */
  ofRank(rank: number): number {
    const any = this.below(this.nodes.length);
    const { dims } = this.nodes[any]!;
    if (dims.length === rank) return any;
    const fitted = rank < dims.length ? [...dims.slice(0, rank - 1), size(dims.slice(rank - 1))] : [...dims];
    while (fitted.length < rank) fitted.unshift(1);
    return this.step('reshape', [any], (ops, v) => ops.reshape(v[any]!, fitted));
  }
}

/** Each adds one operation to a sketch, its operands chosen among what is there or new. */
const GROWTHS: readonly ((s: Sketch) => unknown)[] = [
  ...(['add', 'subtract', 'multiply'] as const).map((name) => (s: Sketch) => {
    const a = s.below(s.nodes.length);
    // Some axes of the other operand are 1, or missing.
    const dims = s.dims(a).map((d) => (s.below(3) === 0 ? 1 : d));
    const b = s.below(2) === 0 ? s.input(dims.slice(s.below(dims.length + 1))) : a;
    const [x, y] = s.below(2) === 0 ? [a, b] : [b, a];
    return s.step(name, [x, y], (ops, v) => ops[name](v[x]!, v[y]!));
  }),
  ...([false, true] as const).map((transB) => (s: Sketch) => {
    const a = s.ofRank(2);
    const [m, k] = s.dims(a) as [number, number];
    const n = 1 + s.below(MAX_DIM);
    // A product with itself, or with a new matrix; what is added is a row, a column or a matrix.
    const b = transB && s.below(3) === 0 ? a : s.input(transB ? [n, k] : [k, n]);
    const width = b === a ? m : n;
    const c = s.below(2) === 0 ? undefined : s.input([[width], [m, 1], [m, width]][s.below(3)]!);
    return s.step('gemm', c === undefined ? [a, b] : [a, b, c], (ops, v) =>
      ops.gemm(v[a]!, v[b]!, transB, c === undefined ? undefined : v[c]!),
    );
  }),
  (s) => {
    const q = s.ofRank(4);
    const k = s.below(2) === 0 ? q : s.input(s.dims(q));
    const v = s.below(2) === 0 ? k : s.input(s.dims(q));
    return s.step('attention', [q, k, v], (ops, all) => ops.attention(all[q]!, all[k]!, all[v]!, 0.7));
  },
  (s) => {
    const x = s.input([1 + s.below(2), 1 + s.below(3), 4 * (1 + s.below(2))]);
    return s.step('rotary', [x], (ops, v) => ops.rotary(v[x]!));
  },
  (s) => {
    const x = s.ofRank(2 + s.below(2));
    const weight = s.input([s.dims(x).at(-1)!]);
    return s.step('rmsNorm', [x, weight], (ops, v) => ops.rmsNorm(v[x]!, v[weight]!));
  },
  (s) => {
    const gate = s.below(s.nodes.length);
    const up = s.below(2) === 0 ? gate : s.input(s.dims(gate));
    return s.step('swiglu', [gate, up], (ops, v) => ops.swiglu(v[gate]!, v[up]!));
  },
  ...(['sigmoid', 'logSigmoid', 'sum'] as const).map((name) => (s: Sketch) => {
    const x = s.below(s.nodes.length);
    return s.step(name, [x], (ops, v) => ops[name](v[x]!));
  }),
  (s) => {
    const x = s.below(s.nodes.length);
    return s.isBent(x) ? undefined : s.step('relu', [x], (ops, v) => ops.relu(v[x]!));
  },
  (s) => {
    const x = s.ofRank(1 + s.below(3));
    return s.step('logSoftmax', [x], (ops, v) => ops.logSoftmax(v[x]!));
  },
  (s) => {
    const table = s.ofRank(1 + s.below(3));
    const rows = Array.from({ length: 1 + s.below(5) }, () => s.below(s.dims(table)[0]!));
    return s.step('rowsAt', [table], (ops, v) => ops.rowsAt(v[table]!, rows));
  },
  (s) => {
    const hidden = s.ofRank(2);
    const [n, d] = s.dims(hidden) as [number, number];
    const table = s.input([1 + s.below(5), d]);
    const labels = Array.from({ length: n }, () => s.below(s.dims(table)[0]!));
    return s.step('labelLogProbs', [hidden, table], (ops, v) => ops.labelLogProbs(v[hidden]!, v[table]!, labels));
  },
  (s) => {
    const x = s.ofRank(2 + s.below(3));
    const order = s.dims(x).map((_, axis) => axis);
    for (let i = order.length - 1; i > 0; i--) {
      const j = s.below(i + 1);
      [order[i], order[j]] = [order[j]!, order[i]!];
    }
    return s.step('transpose', [x], (ops, v) => ops.transpose(v[x]!, order));
  },
];

/** The values of all nodes. */
function evaluated<T>(nodes: readonly Node[], ops: Ops<T>, input: (index: number) => T): T[] {
  const values: T[] = [];
  nodes.forEach((node, i) => values.push('input' in node ? input(i) : node.apply(ops, values)));
  return values;
}

export interface RandomGraphCheck {
  /** Names of the operations, in order. */
  readonly operations: readonly string[];
  /** The largest |gradient - differences| over the inputs, relative to the norm of an input's gradient or of a hundredth of all. */
  readonly error: number;
}

/** Makes the random graph of a seed and compares the gradient of a random sum of all that it leaves unused. */
export async function checkRandomGraph(seed: number): Promise<RandomGraphCheck> {
  const random = uniform(seed);
  const sketch = new Sketch(random);
  for (let i = 0; i < 2; i++) sketch.input(sketch.shape(1 + sketch.below(3)));
  const steps = 1 + sketch.below(8);
  for (let i = 0; i < steps; i++) GROWTHS[sketch.below(GROWTHS.length)]!(sketch);
  const { nodes } = sketch;
  const used = new Set(nodes.flatMap((node) => ('from' in node ? node.from : [])));
  const sinks = nodes.flatMap((node, i) =>
    used.has(i) ? [] : [{ i, weights: randomFloats(size(node.dims), random) }],
  );
  const inputs = nodes.flatMap((node, i) => ('input' in node ? [{ i, dims: node.dims, data: node.input }] : []));

  const loss = (): number => {
    const values = evaluated(nodes, referenceOps, (i) => {
      const node = nodes[i]!;
      return { dims: node.dims, data: exact.get(i)! };
    });
    return sinks.reduce((sum, { i, weights }) => sum + values[i]!.data.reduce((t, x, j) => t + x * weights[j]!, 0), 0);
  };
  const exact = new Map(inputs.map(({ i, data }) => [i, Float64Array.from(data)]));
  const differences = inputs.map(({ i }) => {
    const data = exact.get(i)!;
    return data.map((x, j) => {
      const at = (offset: number): number => {
        data[j] = x + offset;
        const value = loss();
        data[j] = x;
        return value;
      };
      // Fourth order: the error is STEP^4 times a fifth derivative.
      return (8 * (at(STEP) - at(-STEP)) - at(2 * STEP) + at(-2 * STEP)) / (12 * STEP);
    });
  });
  const found = await graphGradients(nodes, inputs, sinks);
  const norm = (x: ArrayLike<number>): number => Math.hypot(...Array.from(x));
  const whole = norm(differences.flatMap((d) => [...d]));
  const errors = differences.map((expected, n) => {
    const apart = norm(expected.map((x, j) => x - found[n]![j]!));
    return apart / Math.max(norm(expected), whole / 100, 1e-6);
  });
  return { operations: nodes.flatMap((node) => ('from' in node ? [node.name] : [])), error: Math.max(...errors) };
}

async function graphGradients(
  nodes: readonly Node[],
  inputs: readonly { readonly i: number; readonly dims: readonly number[]; readonly data: Float32Array }[],
  sinks: readonly { readonly i: number; readonly weights: Float32Array }[],
): Promise<Float32Array[]> {
  const graph = new Graph();
  const ops = graphOps(graph);
  const values = evaluated(nodes, ops, (i) => graph.input(nodes[i]!.name, nodes[i]!.dims));
  const parts = sinks.map(({ i, weights }) =>
    ops.sum(ops.multiply(values[i]!, graph.constant(nodes[i]!.dims, weights))),
  );
  const total = parts.reduce((a, b): Value => ops.add(a, b));
  const wanted = inputs.map(({ i }) => values[i]!);
  gradients(graph, total, wanted).forEach((gradient, n) => graph.output(`gradient${n}`, gradient));
  const session = await createSession(graph, { threads: 1 });
  const feeds: Feeds = {};
  for (const { i, dims, data } of inputs) feeds[nodes[i]!.name] = floatTensor(data, dims);
  const outputs = await session.run(feeds);
  await session.release();
  return inputs.map((_, n) => floatOutput(outputs, `gradient${n}`));
}
