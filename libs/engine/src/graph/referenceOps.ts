/**
 * For tests: the graph's operations a second time, in double precision and from their definitions, so that gradients can be
 * compared with differences that are exact to ten digits.
 */
import { Graph, type Value } from './graph.ts';
import { logSigmoid, logSoftmax, relu, sigmoid, swiglu } from './ops/activation.ts';
import { add, multiply, scale, subtract, sum } from './ops/arithmetic.ts';
import { attention, rotary } from './ops/attention.ts';
import { gemm } from './ops/linear.ts';
import { labelLogProbs, rowsAt } from './ops/lookup.ts';
import { rmsNorm } from './ops/normalization.ts';
import { reshape, transpose } from './ops/shape.ts';

export const EPS = 1e-5;
/** A score that softmax turns into nothing. */
const MASKED = -1e9;

/** What a random graph is made of, over the values of some kind. */
export interface Ops<T> {
  add(a: T, b: T): T;
  subtract(a: T, b: T): T;
  multiply(a: T, b: T): T;
  scale(x: T, factor: number): T;
  sum(x: T): T;
  /** `[m, k] [k, n]`, or `[m, k] [n, k]` transposed, plus `c` broadcast to `[m, n]`. */
  gemm(a: T, b: T, transB: boolean, c?: T): T;
  /** Causal, `[batch, heads, seq, d]`. */
  attention(q: T, k: T, v: T, alpha: number): T;
  /** `x: [batch, seq, heads * 4]`; positions from 0 on. */
  rotary(x: T): T;
  rmsNorm(x: T, weight: T): T;
  swiglu(gate: T, up: T): T;
  sigmoid(x: T): T;
  logSigmoid(x: T): T;
  relu(x: T): T;
  logSoftmax(x: T): T;
  rowsAt(table: T, rows: readonly number[]): T;
  labelLogProbs(hidden: T, table: T, labels: readonly number[]): T;
  reshape(x: T, dims: readonly number[]): T;
  transpose(x: T, order: readonly number[]): T;
}

const numbers = (x: Value): number[] => x.dims as number[];
const rotaryAngle = (position: number, pair: number): number => position * (pair === 0 ? 1 : 0.3);

/** The operations under test. */
export function graphOps(graph: Graph): Ops<Value> {
  return {
    add: (a, b) => add(graph, a, b),
    subtract: (a, b) => subtract(graph, a, b),
    multiply: (a, b) => multiply(graph, a, b),
    scale: (x, factor) => scale(graph, x, factor),
    sum: (x) => sum(graph, x),
    gemm: (a, b, transB, c) => gemm(graph, a, b, { transB, ...(c && { c }) }),
    attention: (q, k, v, alpha) => {
      const seq = numbers(q)[2]!;
      const mask = Float32Array.from({ length: seq * seq }, (_, i) => (i % seq > Math.floor(i / seq) ? MASKED : 0));
      return attention(graph, q, k, v, graph.constant([seq, seq], mask), alpha);
    },
    rotary: (x) => {
      const [batch, seq] = numbers(x) as [number, number];
      const angles = Array.from({ length: seq * 2 }, (_, i) => rotaryAngle(i >> 1, i % 2));
      const table = (f: (angle: number) => number): Value => graph.constant([seq, 2], Float32Array.from(angles, f));
      const tables = { cos: table(Math.cos), sin: table(Math.sin), negativeSin: table((angle) => -Math.sin(angle)) };
      const positions = BigInt64Array.from({ length: batch * seq }, (_, i) => BigInt(i % seq));
      return rotary(graph, x, graph.constant([batch, seq], positions), tables);
    },
    rmsNorm: (x, weight) => rmsNorm(graph, x, weight, EPS),
    swiglu: (gate, up) => swiglu(graph, gate, up),
    sigmoid: (x) => sigmoid(graph, x),
    logSigmoid: (x) => logSigmoid(graph, x),
    relu: (x) => relu(graph, x),
    logSoftmax: (x) => logSoftmax(graph, x),
    rowsAt: (table, rows) => rowsAt(graph, table, graph.int64s(rows)),
    labelLogProbs: (hidden, table, labels) => labelLogProbs(graph, hidden, table, graph.int64s(labels)),
    reshape: (x, dims) => reshape(graph, x, dims),
    transpose: (x, order) => transpose(graph, x, order),
  };
}

export interface Dense {
  readonly dims: readonly number[];
  readonly data: Float64Array;
}

const size = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

function dense(dims: readonly number[], at: (index: number) => number): Dense {
  return { dims, data: Float64Array.from({ length: size(dims) }, (_, i) => at(i)) };
}

const map = (x: Dense, f: (value: number) => number): Dense => dense(x.dims, (i) => f(x.data[i]!));

/** The index into a value of shape `dims` that stands at `index` of the broadcast shape `to`. */
function broadcastIndex(index: number, to: readonly number[], dims: readonly number[]): number {
  let rest = index;
  let at = 0;
  let stride = 1;
  for (let axis = to.length - 1; axis >= 0; axis--) {
    const place = rest % to[axis]!;
    rest = Math.floor(rest / to[axis]!);
    const own = dims[axis - (to.length - dims.length)] ?? 1;
    if (own !== 1) at += place * stride;
    stride *= own;
  }
  return at;
}

function broadcast(a: Dense, b: Dense, f: (x: number, y: number) => number): Dense {
  const rank = Math.max(a.dims.length, b.dims.length);
  const to = Array.from({ length: rank }, (_, i) =>
    Math.max(a.dims[i - rank + a.dims.length] ?? 1, b.dims[i - rank + b.dims.length] ?? 1),
  );
  return dense(to, (i) => f(a.data[broadcastIndex(i, to, a.dims)]!, b.data[broadcastIndex(i, to, b.dims)]!));
}

/** Replaces each row of the last axis. */
function byRow(x: Dense, f: (row: Float64Array) => ArrayLike<number>): Dense {
  const width = x.dims.at(-1) ?? 1;
  const out = new Float64Array(x.data.length);
  for (let at = 0; at < out.length; at += width) out.set(f(x.data.subarray(at, at + width)), at);
  return { dims: x.dims, data: out };
}

const logSum = (row: Float64Array): number => {
  const max = Math.max(...row);
  return max + Math.log(row.reduce((total, x) => total + Math.exp(x - max), 0));
};
const logistic = (x: number): number => 1 / (1 + Math.exp(-x));

function matrixProduct(a: Dense, b: Dense, transB: boolean): Dense {
  const [m, k] = a.dims as [number, number];
  const n = b.dims[transB ? 0 : 1]!;
  return dense([m, n], (i) => {
    const [row, column] = [Math.floor(i / n), i % n];
    let total = 0;
    for (let t = 0; t < k; t++) total += a.data[row * k + t]! * b.data[transB ? column * k + t : t * n + column]!;
    return total;
  });
}

function attended(q: Dense, k: Dense, v: Dense, alpha: number): Dense {
  const [, , seq, d] = q.dims as [number, number, number, number];
  const out = new Float64Array(q.data.length);
  for (let head = 0; head < out.length; head += seq * d) {
    for (let t = 0; t < seq; t++) {
      const scores = Float64Array.from({ length: t + 1 }, (_, s) => {
        let dot = 0;
        for (let i = 0; i < d; i++) dot += q.data[head + t * d + i]! * k.data[head + s * d + i]!;
        return alpha * dot;
      });
      const total = logSum(scores);
      scores.forEach((score, s) => {
        for (let i = 0; i < d; i++) out[head + t * d + i]! += Math.exp(score - total) * v.data[head + s * d + i]!;
      });
    }
  }
  return { dims: q.dims, data: out };
}

function rotated(x: Dense): Dense {
  const [, seq, width] = x.dims as [number, number, number];
  return dense(x.dims, (i) => {
    const place = i % 4;
    const angle = rotaryAngle(Math.floor(i / width) % seq, place % 2);
    // The pairs are (0, 2) and (1, 3) of each head.
    const [first, second] = [x.data[i - place + (place % 2)]!, x.data[i - place + (place % 2) + 2]!];
    return place < 2
      ? first * Math.cos(angle) - second * Math.sin(angle)
      : second * Math.cos(angle) + first * Math.sin(angle);
  });
}

export const referenceOps: Ops<Dense> = {
  add: (a, b) => broadcast(a, b, (x, y) => x + y),
  subtract: (a, b) => broadcast(a, b, (x, y) => x - y),
  multiply: (a, b) => broadcast(a, b, (x, y) => x * y),
  scale: (x, factor) => map(x, (value) => value * Math.fround(factor)),
  sum: (x) => dense([], () => x.data.reduce((a, b) => a + b, 0)),
  gemm: (a, b, transB, c) => {
    const product = matrixProduct(a, b, transB);
    return c === undefined ? product : broadcast(product, c, (x, y) => x + y);
  },
  attention: attended,
  rotary: rotated,
  rmsNorm: (x, weight) =>
    byRow(x, (row) => {
      const root = Math.sqrt(row.reduce((total, value) => total + value * value, 0) / row.length + EPS);
      return row.map((value, i) => (value / root) * weight.data[i]!);
    }),
  swiglu: (gate, up) => broadcast(gate, up, (g, u) => g * logistic(g) * u),
  sigmoid: (x) => map(x, logistic),
  logSigmoid: (x) => map(x, (value) => Math.min(value, 0) - Math.log1p(Math.exp(-Math.abs(value)))),
  relu: (x) => map(x, (value) => Math.max(value, 0)),
  logSoftmax: (x) => byRow(x, (row) => row.map((value) => value - logSum(row))),
  rowsAt: (table, rows) => {
    const width = size(table.dims.slice(1));
    return dense([rows.length, ...table.dims.slice(1)], (i) => {
      return table.data[rows[Math.floor(i / width)]! * width + (i % width)]!;
    });
  },
  labelLogProbs: (hidden, table, labels) => {
    const logs = referenceOps.logSoftmax(matrixProduct(hidden, table, true));
    return dense([labels.length, 1], (i) => logs.data[i * table.dims[0]! + labels[i]!]!);
  },
  reshape: (x, dims) => ({ dims, data: x.data }),
  transpose: (x, order) => {
    const dims = order.map((axis) => x.dims[axis]!);
    const strides = x.dims.map((_, axis) => size(x.dims.slice(axis + 1)));
    return dense(dims, (index) => {
      let rest = index;
      let at = 0;
      for (let axis = dims.length - 1; axis >= 0; axis--) {
        at += (rest % dims[axis]!) * strides[order[axis]!]!;
        rest = Math.floor(rest / dims[axis]!);
      }
      return x.data[at]!;
    });
  },
};
