import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { laplacianVariance, measureQuality } from './quality.ts';

/** A checkerboard of `cell` pixels between two levels. */
function board(size: number, cell: number, dark: number, light: number): Uint8Array {
  return Uint8Array.from({ length: size * size }, (_, i) =>
    (Math.floor((i % size) / cell) + Math.floor(i / size / cell)) % 2 === 0 ? dark : light,
  );
}

const measure = (luma: Uint8Array, size: number, width = 1_000, height = 1_000) =>
  measureQuality({ width, height, luma, lumaWidth: size, lumaHeight: size });

describe('measureQuality', () => {
  it('is one for a large, sharp, well-lit picture', () => {
    expect(measure(board(64, 2, 40, 200), 64).quality).toBe(1);
  });

  it('falls with resolution alone, from one at a megapixel to nothing at a thumbnail', () => {
    const luma = board(64, 2, 40, 200);
    const at = (width: number) => measure(luma, 64, width, width).resolution;
    expect([at(1_000), at(64), at(20)]).toEqual([1, 0, 0]);
    expect(at(500)).toBeGreaterThan(at(250));
  });

  it('falls when it is too dark, too bright, or flat', () => {
    const exposure = (dark: number, light: number) => measure(board(64, 2, dark, light), 64).exposure;
    expect(exposure(60, 190)).toBe(1);
    expect(exposure(0, 12)).toBeLessThan(0.1);
    expect(exposure(245, 255)).toBeLessThan(0.3);
    expect(exposure(128, 130)).toBeLessThan(0.1);
  });

  it('stays in [0, 1] for anything', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 16, maxLength: 16 }),
        fc.integer({ min: 1, max: 100_000 }),
        fc.integer({ min: 1, max: 100_000 }),
        (luma, width, height) => {
          const result = measureQuality({ width, height, luma, lumaWidth: 4, lumaHeight: 4 });
          for (const value of Object.values(result)) {
            expect(value).toBeGreaterThanOrEqual(0);
            expect(value).toBeLessThanOrEqual(1);
          }
        },
      ),
    );
  });
});

describe('laplacianVariance', () => {
  it('is that of the definition', () => {
    // One bright pixel in the middle of 5 x 5: the inner Laplacians are -400 once, 100 four times, 0 four times.
    const luma = new Uint8Array(25);
    luma[12] = 100;
    expect(laplacianVariance(luma, 5, 5)).toBeCloseTo((400 ** 2 + 4 * 100 ** 2) / 9, 9);
  });

  it('is zero for a slope and for what has no inside', () => {
    expect(
      laplacianVariance(
        Uint8Array.from({ length: 64 }, (_, i) => (i % 8) * 20),
        8,
        8,
      ),
    ).toBe(0);
    expect(laplacianVariance(new Uint8Array([1, 200]), 2, 1)).toBe(0);
  });
});
