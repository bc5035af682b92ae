import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ModelConfig } from '../types.ts';
import { CACHE_BLOCK, KvCache } from './kvCache.ts';

const config: ModelConfig = {
  hiddenSize: 8,
  intermediateSize: 8,
  numLayers: 2,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 2,
  vocabSize: 5,
  maxPositions: 512,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  tieWordEmbeddings: true,
};
const WIDTH = config.numKvHeads * config.headDim;

/** What a row should hold: for each position the mark written there. */
function expectRow(cache: KvCache, row: number, marks: readonly number[]): void {
  expect(cache.length(row)).toBe(marks.length);
  for (let layer = 0; layer < config.numLayers; layer++) {
    const { key, value } = cache.view(layer, row, 1);
    marks.forEach((mark, t) => {
      for (let head = 0; head < config.numKvHeads; head++) {
        const at = (head * cache.positions + t) * config.headDim;
        expect(key[at + 1]).toBe(mark * 100 + layer * 10 + head * config.headDim + 1);
        expect(value[at]).toBe(-(mark * 100 + layer * 10 + head * config.headDim));
      }
    });
  }
}

/** New keys and values of `rows` rows of `seq` positions, `[rows, seq, kvHeads * headDim]`, by mark. */
function fresh(marks: readonly number[]): { key: Float32Array; value: Float32Array }[] {
  return Array.from({ length: config.numLayers }, (_, layer) => {
    const key = Float32Array.from(
      { length: marks.length * WIDTH },
      (__, i) => marks[Math.floor(i / WIDTH)]! * 100 + layer * 10 + (i % WIDTH),
    );
    return { key, value: key.map((x) => -x) };
  });
}

const action = fc.oneof(
  fc.record({ kind: fc.constant('open' as const), seq: fc.integer({ min: 1, max: 100 }) }),
  fc.record({ kind: fc.constant('fork' as const), row: fc.nat() }),
  fc.record({ kind: fc.constant('release' as const), row: fc.nat() }),
  fc.record({ kind: fc.constant('step' as const) }),
);

describe('KvCache', () => {
  it('holds for each row what was appended to it, through growing, shrinking, forking and releasing', () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 30 }), (actions) => {
        const cache = new KvCache(config);
        const rows: number[][] = [];
        let mark = 0;
        const room = (extra: number, length: number): void =>
          cache.reserve(rows.length + extra, Math.max(length, ...rows.map((row) => row.length + 1)));
        for (const step of actions) {
          if (step.kind === 'open') {
            const marks = Array.from({ length: step.seq }, () => ++mark);
            room(1, step.seq);
            cache.append(cache.open(), 1, step.seq, fresh(marks));
            rows.push(marks);
          } else if (step.kind === 'step') {
            const marks = rows.map(() => ++mark);
            room(0, 1);
            cache.append(0, rows.length, 1, fresh(marks));
            rows.forEach((row, i) => row.push(marks[i]!));
          } else if (rows.length > 0 && step.kind === 'fork') {
            room(1, 1);
            const from = step.row % rows.length;
            cache.fork(from);
            rows.push([...rows[from]!]);
          } else if (rows.length > 0 && step.kind === 'release') {
            const row = step.row % rows.length;
            const moved = cache.release(row);
            const last = rows.pop()!;
            if (moved !== undefined) rows[row] = last;
          }
          expect(cache.count).toBe(rows.length);
        }
        expect(cache.positions % CACHE_BLOCK).toBe(0);
        rows.forEach((marks, row) => expectRow(cache, row, marks));
      }),
      { numRuns: 60 },
    );
  });

  it('gives memory back when long rows have left', () => {
    const cache = new KvCache(config);
    cache.reserve(2, 400);
    expect(cache.positions).toBe(448);
    cache.reserve(2, 100);
    expect(cache.positions).toBe(128);
    expect(() => cache.append(cache.open(), 1, 200, fresh(Array.from({ length: 200 }, () => 1)))).toThrow(
      /no positions/,
    );
  });
});
