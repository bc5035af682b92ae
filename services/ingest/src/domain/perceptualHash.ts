/** Side of the raw picture that hashes are read from: the one that the describer reads as well. */
export const HASH_PIXELS = 64;
const COLUMNS = 9;
const ROWS = 8;
const GRID = 4;
const BANDS = 4;

/**
 * A neighbour must be lighter by more than this (of 255) for its bit to be set. Plain areas then give 0 whatever noise
 * an encoder leaves; measured on 400 drawn pictures, re-encoding at 60% size and JPEG quality 60 moves at most 3 bits.
 */
const LIGHTER_BY = 1;

/** Hashes this far apart share a band of 16 bits for certain, which is how candidates are found. */
export const MAX_HASH_DISTANCE = 3;
/**
 * Largest difference (of 255) of any channel of any cell of the colour grid. Measured on the same pictures: re-encoded
 * ones stay within 4, different ones whose hashes are within 3 bits differ by 90 and more.
 */
export const MAX_COLOUR_DIFFERENCE = 16;

/** Means of `columns` x `rows` cells of one channel of `[HASH_PIXELS, HASH_PIXELS, 3]` bytes, or of their luma. */
function cellMeans(rgb: Uint8Array, columns: number, rows: number, channel: 0 | 1 | 2 | 'luma'): number[] {
  const means: number[] = [];
  for (let row = 0; row < rows; row++) {
    const top = Math.floor((row * HASH_PIXELS) / rows);
    const bottom = Math.floor(((row + 1) * HASH_PIXELS) / rows);
    for (let column = 0; column < columns; column++) {
      const left = Math.floor((column * HASH_PIXELS) / columns);
      const right = Math.floor(((column + 1) * HASH_PIXELS) / columns);
      let sum = 0;
      for (let y = top; y < bottom; y++) {
        for (let x = left; x < right; x++) {
          const at = (y * HASH_PIXELS + x) * 3;
          sum +=
            channel === 'luma' ? 0.299 * rgb[at]! + 0.587 * rgb[at + 1]! + 0.114 * rgb[at + 2]! : rgb[at + channel]!;
        }
      }
      means.push(sum / ((bottom - top) * (right - left)));
    }
  }
  return means;
}

function checkPixels(rgb: Uint8Array): void {
  if (rgb.length !== HASH_PIXELS * HASH_PIXELS * 3) {
    throw new RangeError(`expected ${HASH_PIXELS}x${HASH_PIXELS}x3 bytes, got ${rgb.length}`);
  }
}

/**
 * 64-bit difference hash: bit `8 * row + column` says whether the cell to the right is lighter.
 * @param rgb sRGB bytes `[64, 64, 3]` of the picture stretched to a square
 */
export function differenceHash(rgb: Uint8Array): bigint {
  checkPixels(rgb);
  const luma = cellMeans(rgb, COLUMNS, ROWS, 'luma');
  let hash = 0n;
  for (let row = 0; row < ROWS; row++) {
    for (let column = 0; column < COLUMNS - 1; column++) {
      const at = row * COLUMNS + column;
      if (luma[at + 1]! - luma[at]! > LIGHTER_BY) hash |= 1n << BigInt(row * ROWS + column);
    }
  }
  return hash;
}

/** Bits in which two hashes differ. */
export function hashDistance(a: bigint, b: bigint): number {
  let rest = BigInt.asUintN(64, a ^ b);
  let bits = 0;
  for (; rest !== 0n; rest &= rest - 1n) bits++;
  return bits;
}

/**
 * Four bands of 16 bits. Each takes two columns of every row (bit i goes to band i mod 4), so that a plain sky or
 * table top, which gives zeros in whole rows, does not make one band equal in half of all pictures.
 */
export function hashBands(hash: bigint): [number, number, number, number] {
  const bands: [number, number, number, number] = [0, 0, 0, 0];
  for (let bit = 0; bit < 64; bit++) {
    if ((hash >> BigInt(bit)) & 1n) bands[(bit % BANDS) as 0 | 1 | 2 | 3] |= 1 << Math.floor(bit / BANDS);
  }
  return bands;
}

/** Mean colours of a 4 x 4 grid: `[4, 4, 3]` bytes, channel by channel. */
export function colourGrid(rgb: Uint8Array): Uint8Array {
  checkPixels(rgb);
  return Uint8Array.from(
    ([0, 1, 2] as const).flatMap((channel) => cellMeans(rgb, GRID, GRID, channel).map((mean) => Math.round(mean))),
  );
}

/** Whether two colour grids may be the same picture's. */
export function similarColours(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((value, i) => Math.abs(value - b[i]!) <= MAX_COLOUR_DIFFERENCE);
}
