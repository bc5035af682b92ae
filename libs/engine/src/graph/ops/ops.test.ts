import { describe, expect, test } from 'vitest';
import { Graph, type Value } from '../graph.ts';
import { gradientError, randomFloats, uniform } from '../gradientCheck.ts';
import { createSession, floatOutput, floatTensor, int64Tensor } from '../session.ts';
import { logSigmoid, logSoftmax, relu, swiglu } from './activation.ts';
import { add, multiply, scale, subtract, sum } from './arithmetic.ts';
import { attention, rotary } from './attention.ts';
import { gemm } from './linear.ts';
import { chunkedLabelLogProbs, labelLogProbs, rowsAt } from './lookup.ts';
import { rmsNorm } from './normalization.ts';
import { reshape, transpose } from './shape.ts';

const TOLERANCE = 1e-3;

interface Case {
  readonly name: string;
  readonly shapes: Record<string, number[]>;
  readonly indices?: Record<string, { dims: number[]; data: number[] }>;
  readonly build: (graph: Graph, v: Record<string, Value>) => Value;
}

const at = (v: Record<string, Value>, name: string): Value => v[name]!;

const cases: Case[] = [
  { name: 'add, broadcast', shapes: { a: [2, 3, 4], b: [3, 1] }, build: (g, v) => add(g, at(v, 'a'), at(v, 'b')) },
  { name: 'subtract, broadcast', shapes: { a: [4], b: [2, 4] }, build: (g, v) => subtract(g, at(v, 'a'), at(v, 'b')) },
  {
    name: 'multiply, broadcast',
    shapes: { a: [2, 1, 4], b: [3, 4] },
    build: (g, v) => multiply(g, at(v, 'a'), at(v, 'b')),
  },
  { name: 'multiply by itself', shapes: { a: [5] }, build: (g, v) => multiply(g, at(v, 'a'), at(v, 'a')) },
  { name: 'sum', shapes: { a: [2, 3] }, build: (g, v) => multiply(g, sum(g, at(v, 'a')), at(v, 'a')) },
  ...[false, true].flatMap((transA) =>
    [false, true].map(
      (transB): Case => ({
        name: `gemm transA ${transA} transB ${transB} with c`,
        shapes: { a: transA ? [4, 3] : [3, 4], b: transB ? [5, 4] : [4, 5], c: [5] },
        build: (g, v) => gemm(g, at(v, 'a'), at(v, 'b'), { transA, transB, c: at(v, 'c') }),
      }),
    ),
  ),
  {
    name: 'gemm gradients accumulating in one input',
    shapes: { x: [3, 4], w: [4, 4] },
    build: (g, v) => gemm(g, gemm(g, at(v, 'x'), at(v, 'w')), at(v, 'w'), { transB: true, c: at(v, 'x') }),
  },
  {
    name: 'reshape and transpose',
    shapes: { a: [2, 3, 4] },
    build: (g, v) => reshape(g, transpose(g, at(v, 'a'), [2, 0, 1]), [4, 6]),
  },
  { name: 'rmsNorm', shapes: { x: [2, 3, 8], w: [8] }, build: (g, v) => rmsNorm(g, at(v, 'x'), at(v, 'w'), 1e-5) },
  { name: 'swiglu', shapes: { a: [3, 5], b: [3, 5] }, build: (g, v) => swiglu(g, at(v, 'a'), at(v, 'b')) },
  { name: 'logSigmoid', shapes: { a: [7] }, build: (g, v) => logSigmoid(g, scale(g, at(v, 'a'), 4)) },
  { name: 'relu', shapes: { a: [7] }, build: (g, v) => relu(g, at(v, 'a')) },
  { name: 'logSoftmax', shapes: { a: [3, 5] }, build: (g, v) => logSoftmax(g, scale(g, at(v, 'a'), 4)) },
  {
    name: 'attention, causal',
    shapes: { q: [2, 2, 3, 4], k: [2, 2, 3, 4], v: [2, 2, 3, 4] },
    build: (g, v) => {
      const mask = g.constant([3, 3], Float32Array.of(0, -1e9, -1e9, 0, 0, -1e9, 0, 0, 0));
      return attention(g, at(v, 'q'), at(v, 'k'), at(v, 'v'), mask, 0.5);
    },
  },
  {
    name: 'rotary',
    shapes: { x: [2, 3, 8] },
    indices: { positions: { dims: [2, 3], data: [0, 1, 2, 5, 1, 0] } },
    build: (g, v) => {
      const angles = Array.from({ length: 12 }, (_, i) => (i >> 1) * (i % 2 === 0 ? 1 : 0.3));
      const sines = Float32Array.from(angles, Math.sin);
      const tables = {
        cos: g.constant([6, 2], Float32Array.from(angles, Math.cos)),
        sin: g.constant([6, 2], sines),
        negativeSin: g.constant(
          [6, 2],
          sines.map((s) => -s),
        ),
      };
      return rotary(g, at(v, 'x'), at(v, 'positions'), tables);
    },
  },
  {
    name: 'rowsAt with repeated rows',
    shapes: { table: [4, 3] },
    indices: { index: { dims: [5], data: [1, 3, 1, 0, 1] } },
    build: (g, v) => rowsAt(g, at(v, 'table'), at(v, 'index')),
  },
  {
    name: 'labelLogProbs',
    shapes: { hidden: [4, 3], table: [6, 3] },
    indices: { labels: { dims: [4], data: [5, 0, 5, 2] } },
    build: (g, v) => labelLogProbs(g, at(v, 'hidden'), at(v, 'table'), at(v, 'labels')),
  },
];

describe('each operation: gradient against central differences', () => {
  test.each(cases)('$name', async ({ shapes, indices, build }) => {
    const random = uniform(7);
    const floats = Object.fromEntries(
      Object.entries(shapes).map(([name, dims]) => [
        name,
        {
          dims,
          data: randomFloats(
            dims.reduce((a, b) => a * b, 1),
            random,
          ),
        },
      ]),
    );
    expect(await gradientError({ floats, build, ...(indices === undefined ? {} : { indices }) })).toBeLessThan(
      TOLERANCE,
    );
  });
});

test('chunked label log-probabilities: the same values and gradient as in one piece', async () => {
  const random = uniform(3);
  const table = randomFloats(21, random);
  const spec = {
    floats: { hidden: { dims: [6, 3], data: randomFloats(18, random) } },
    indices: { labels: { dims: [6], data: [5, 0, 5, 2, 6, 1] } },
  };
  const difference = await gradientError({
    ...spec,
    build: (g, v) => {
      const rows = g.constant([7, 3], table);
      const options = { chunks: 3, differentiable: true };
      return chunkedLabelLogProbs(g, at(v, 'hidden'), rows, at(v, 'labels'), options);
    },
  });
  expect(difference).toBeLessThan(TOLERANCE);
  const graph = new Graph();
  const hidden = graph.input('hidden', ['n', 3]);
  const labels = graph.input('labels', ['n'], 'int64');
  const rows = graph.constant([7, 3], table);
  graph.output('whole', labelLogProbs(graph, hidden, rows, labels));
  graph.output('parts', chunkedLabelLogProbs(graph, hidden, rows, labels, { chunks: 2, differentiable: false }));
  const session = await createSession(graph, { threads: 1 });
  const outputs = await session.run({
    hidden: floatTensor(spec.floats.hidden.data, [6, 3]),
    labels: int64Tensor(BigInt64Array.from(spec.indices.labels.data, BigInt), [6]),
  });
  await session.release();
  const whole = floatOutput(outputs, 'whole');
  floatOutput(outputs, 'parts').forEach((value, i) => expect(value).toBeCloseTo(whole[i]!, 6));
});
