import { expect, test } from 'vitest';
import { peakBytes, productFlop, sizeOf } from './cost.ts';
import { Graph } from './graph.ts';
import { add, multiply } from './ops/arithmetic.ts';
import { gemm } from './ops/linear.ts';

test('sizes by name, their products and parts', () => {
  const sizes = new Map([
    ['seq', 5],
    ['picked', 7],
  ]);
  expect([sizeOf(3, sizes), sizeOf('seq*2', sizes), sizeOf('picked/2', sizes)]).toEqual([3, 10, 4]);
  expect(() => sizeOf('rows', sizes)).toThrow('rows');
  expect(sizeOf('rows', new Map([['*', 2]]))).toBe(2);
});

test('memory of what lives at once, and the operations of products', () => {
  const graph = new Graph();
  const x = graph.input('x', ['n', 4]);
  const w = graph.input('w', [8, 4]);
  const wide = gemm(graph, x, w, { transB: true }); // [n, 8]
  const doubled = add(graph, wide, wide); // over `wide`, which nothing else reads
  const back = gemm(graph, doubled, w); // [n, 4] beside it
  graph.output('y', multiply(graph, back, x));
  gemm(graph, wide, w); // Nothing needs it: neither counted nor run.
  const sizes = new Map([['n', 10]]);
  expect(peakBytes(graph, sizes)).toBe(4 * 10 * (8 + 4));
  expect(productFlop(graph, sizes)).toBe(2 * 10 * 8 * 4 * 2);
});
