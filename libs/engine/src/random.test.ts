import { describe, expect, it } from 'vitest';
import { createRandom } from './random.ts';

const take = (seed: number, n: number): number[] => {
  const random = createRandom(seed);
  return Array.from({ length: n }, random);
};

describe('createRandom', () => {
  it('gives one stream per seed', () => {
    expect(take(7, 20)).toEqual(take(7, 20));
    const seeds = [0, 1, 2, -1, 2 ** 32, 2 ** 32 + 1, 2 ** 47, Number.MAX_SAFE_INTEGER, 0x5bd1e995];
    expect(new Set(seeds.map((seed) => take(seed, 3).join())).size).toBe(seeds.length);
  });

  it('keeps the streams of earlier versions: seeds are stored with runs', () => {
    expect(take(42, 3)).toEqual([0.9862371431786787, 0.13829243513613565, 0.3381300164894617]);
  });

  it.each([0, 1, 0x5bd1e995])('is uniform in [0, 1): seed %i', (seed) => {
    const counts = new Float64Array(16);
    const n = 32_000;
    for (const x of take(seed, n)) {
      expect(x >= 0 && x < 1).toBe(true);
      counts[Math.floor(x * 16)]! += 1;
    }
    // Pearson's statistic with 15 degrees of freedom; 45 is exceeded once in ten thousand times, and the seeds are fixed.
    const statistic = counts.reduce((total, count) => total + (count - n / 16) ** 2 / (n / 16), 0);
    expect(statistic).toBeLessThan(45);
  });

  it('gives unrelated streams to neighbouring seeds', () => {
    const [a, b] = [take(100, 4000), take(101, 4000)];
    const covariance = a.reduce((total, x, i) => total + (x - 0.5) * (b[i]! - 0.5), 0) / a.length;
    expect(Math.abs(covariance * 12)).toBeLessThan(0.06);
  });
});
