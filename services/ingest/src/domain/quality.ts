/** What quality is made of. */
export interface QualityInput {
  /** Original size in pixels. */
  readonly width: number;
  readonly height: number;
  /** Luma bytes `[h, w]` of the picture scaled to at most SHARPNESS_PIXELS a side, never enlarged. */
  readonly luma: Uint8Array;
  readonly lumaWidth: number;
  readonly lumaHeight: number;
}

export interface Quality {
  readonly resolution: number;
  readonly sharpness: number;
  readonly exposure: number;
  /** All in [0, 1]; this is their weighted mean. */
  readonly quality: number;
}

/** Sharpness is measured at one scale, or a large picture would look less sharp than its own thumbnail. */
export const SHARPNESS_PIXELS = 512;

const WEIGHTS = { resolution: 0.4, sharpness: 0.35, exposure: 0.25 } as const;
/** A thumbnail scores 0, a megapixel 1, evenly by doublings between. */
const PIXELS_FOR_NOTHING = 64 * 64;
const PIXELS_FOR_ALL = 1_000_000;
/** Laplacian variance (of 255 squared): a blurred photo has tens, a sharp one many hundreds. */
const VARIANCE_FOR_ALL = 500;
/** Mean luma that counts as well exposed, and the ends at which nothing can be made out. */
const DARK = { nothing: 0.02, fine: 0.2 } as const;
const BRIGHT = { fine: 0.85, nothing: 0.995 } as const;
/** Standard deviation of luma below which a picture is flat grey. */
const CONTRAST_FOR_ALL = 0.06;

/** Quality in [0, 1] from resolution, sharpness and exposure. */
export function measureQuality(input: QualityInput): Quality {
  const pixels = input.width * input.height;
  const resolution = clamp(Math.log(pixels / PIXELS_FOR_NOTHING) / Math.log(PIXELS_FOR_ALL / PIXELS_FOR_NOTHING));
  const variance = laplacianVariance(input.luma, input.lumaWidth, input.lumaHeight);
  const sharpness = clamp(Math.log1p(variance) / Math.log1p(VARIANCE_FOR_ALL));
  const { mean, deviation } = moments(input.luma);
  const lit = Math.min(
    clamp((mean - DARK.nothing) / (DARK.fine - DARK.nothing)),
    clamp((BRIGHT.nothing - mean) / (BRIGHT.nothing - BRIGHT.fine)),
  );
  const exposure = lit * clamp(deviation / CONTRAST_FOR_ALL);
  const quality = WEIGHTS.resolution * resolution + WEIGHTS.sharpness * sharpness + WEIGHTS.exposure * exposure;
  return { resolution, sharpness, exposure, quality: Math.round(clamp(quality) * 10_000) / 10_000 };
}

/** Variance of the 4-neighbour Laplacian over the inner pixels: the classic focus measure. 0 below 3 x 3. */
export function laplacianVariance(luma: Uint8Array, width: number, height: number): number {
  let sum = 0;
  let squares = 0;
  let count = 0;
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++) {
      const at = y * width + x;
      const value = luma[at - 1]! + luma[at + 1]! + luma[at - width]! + luma[at + width]! - 4 * luma[at]!;
      sum += value;
      squares += value * value;
      count++;
    }
  }
  if (count === 0) return 0;
  const mean = sum / count;
  return squares / count - mean * mean;
}

function moments(luma: Uint8Array): { mean: number; deviation: number } {
  let sum = 0;
  let squares = 0;
  for (const value of luma) {
    sum += value;
    squares += value * value;
  }
  const mean = sum / luma.length;
  return { mean: mean / 255, deviation: Math.sqrt(Math.max(0, squares / luma.length - mean * mean)) / 255 };
}

function clamp(value: number): number {
  return Math.min(1, Math.max(0, value));
}
