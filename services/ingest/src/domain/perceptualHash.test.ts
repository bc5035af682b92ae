import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  colourGrid,
  differenceHash,
  HASH_PIXELS,
  hashBands,
  hashDistance,
  MAX_HASH_DISTANCE,
  similarColours,
} from './perceptualHash.ts';

const hash = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });

function picture(colour: (x: number, y: number) => [number, number, number]): Uint8Array {
  const rgb = new Uint8Array(HASH_PIXELS * HASH_PIXELS * 3);
  for (let y = 0; y < HASH_PIXELS; y++) {
    for (let x = 0; x < HASH_PIXELS; x++) rgb.set(colour(x, y), (y * HASH_PIXELS + x) * 3);
  }
  return rgb;
}

describe('differenceHash', () => {
  it('is all ones where it grows lighter to the right, zero where it does not, zero where it is plain', () => {
    expect(differenceHash(picture((x) => [x * 3, x * 3, x * 3]))).toBe(2n ** 64n - 1n);
    expect(differenceHash(picture((x) => [255 - x * 3, 255 - x * 3, 255 - x * 3]))).toBe(0n);
    expect(differenceHash(picture(() => [90, 120, 30]))).toBe(0n);
  });

  it('numbers its bits by row and column', () => {
    // Lighter in the right half of the upper eighth only: the step lies between the fifth and fourth cell.
    const bits = differenceHash(picture((x, y) => (y < 8 && x >= 35 ? [200, 200, 200] : [50, 50, 50])));
    expect(bits & 0xffn).not.toBe(0n);
    expect(bits >> 8n).toBe(0n);
  });

  it('does not see an encoder’s noise in plain areas', () => {
    const noisy = picture((x, y) => {
      const value = 128 + (((x * 7 + y * 13) % 3) - 1);
      return [value, value, value];
    });
    expect(differenceHash(noisy)).toBe(0n);
  });

  it('wants exactly the pixels it is made for', () => {
    expect(() => differenceHash(new Uint8Array(12))).toThrow(RangeError);
  });
});

describe('hashBands', () => {
  it('shares a band with every hash within the distance, so that four look-ups find it', () => {
    fc.assert(
      fc.property(
        hash,
        fc.uniqueArray(fc.integer({ min: 0, max: 63 }), { maxLength: MAX_HASH_DISTANCE }),
        (a, flips) => {
          const b = flips.reduce((value, bit) => value ^ (1n << BigInt(bit)), a);
          expect(hashDistance(a, b)).toBe(flips.length);
          const bands = hashBands(b);
          expect(hashBands(a).some((band, i) => band === bands[i])).toBe(true);
        },
      ),
    );
  });

  it('keeps all 64 bits', () => {
    fc.assert(
      fc.property(hash, hash, (a, b) => {
        const same = hashBands(a).every((band, i) => band === hashBands(b)[i]);
        expect(same).toBe(a === b);
      }),
    );
    expect(hashBands(2n ** 64n - 1n)).toEqual([65_535, 65_535, 65_535, 65_535]);
  });
});

describe('colours', () => {
  it('tells pictures of other colours apart and forgives small shifts', () => {
    const red = colourGrid(picture(() => [200, 40, 40]));
    expect(red).toHaveLength(48);
    expect(similarColours(red, colourGrid(picture(() => [206, 46, 34])))).toBe(true);
    expect(similarColours(red, colourGrid(picture(() => [40, 200, 40])))).toBe(false);
    const spot = colourGrid(picture((x, y) => (x < 16 && y < 16 ? [40, 40, 200] : [200, 40, 40])));
    expect(similarColours(red, spot)).toBe(false);
  });
});
