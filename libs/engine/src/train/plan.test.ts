import fc from 'fast-check';
import { expect, test } from 'vitest';
import { planEpoch } from './plan.ts';
import { rateAt } from './schedule.ts';

const lengths = fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 120 });

test('every example once an epoch; no batch or packed row too large', () => {
  fc.assert(
    fc.property(lengths, fc.integer({ min: 1, max: 9 }), fc.boolean(), fc.nat(), (sizes, batchSize, pack, seed) => {
      const options = { lengths: sizes, batchSize, seed, ...(pack ? { packTo: 30 } : {}) };
      const plan = planEpoch(options, 1);
      expect(plan.flat(2).toSorted((a, b) => a - b)).toEqual(sizes.map((_, i) => i));
      for (const batch of plan) {
        expect(batch.length).toBeLessThanOrEqual(batchSize);
        for (const row of batch) {
          expect(row.length).toBeLessThanOrEqual(pack ? 30 : 1);
          expect(row.reduce((n, i) => n + sizes[i]!, 0)).toBeLessThanOrEqual(30);
        }
      }
      expect(planEpoch(options, 1)).toEqual(plan);
    }),
  );
});

test('epochs and seeds differ; packing and buckets leave little padding', () => {
  const sizes = Array.from({ length: 400 }, (_, i) => 10 + ((i * 37) % 60));
  const options = { lengths: sizes, batchSize: 8, seed: 1 };
  expect(planEpoch(options, 1)).not.toEqual(planEpoch(options, 0));
  expect(planEpoch({ ...options, seed: 2 }, 0)).not.toEqual(planEpoch(options, 0));
  const real = sizes.reduce((a, b) => a + b, 0);
  for (const packTo of [undefined, 96]) {
    const plan = planEpoch({ ...options, ...(packTo === undefined ? {} : { packTo }) }, 0);
    const padded = plan.reduce((total, batch) => {
      const rows = batch.map((row) => row.reduce((n, i) => n + sizes[i]!, 0));
      return total + rows.length * Math.max(...rows);
    }, 0);
    expect(real / padded).toBeGreaterThan(0.9);
  }
});

test('learning rate: warm-up from 0, then down to the final share', () => {
  const options = { kind: 'cosine' as const, totalSteps: 100, warmupRatio: 0.1, finalRatio: 0.2 };
  expect(rateAt(options, 0)).toBe(0);
  expect(rateAt(options, 5)).toBe(0.5);
  expect(rateAt(options, 10)).toBe(1);
  expect(rateAt(options, 55)).toBeCloseTo(0.6, 12);
  expect(rateAt(options, 100)).toBeCloseTo(0.2, 12);
  expect(rateAt({ ...options, kind: 'linear' }, 55)).toBeCloseTo(0.6, 12);
  expect(rateAt({ ...options, kind: 'constant' }, 99)).toBe(1);
});
