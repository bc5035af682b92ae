import { LIGHTS, type Light } from './world.ts';

/**
 * How light falls on a background: brightness as a share of the lit side's, over the picture.
 * Pictures are drawn with it and read by it. Coordinates run from -1 (left, top) to 1 (right, bottom).
 */
export const FALL_OFF = 0.45;

/** Unit step from light to dark, so that `t = (1 + dx x + dy y) / 2` runs from 0 at the lit side to 1. */
export const DIRECTIONS: Readonly<Partial<Record<Light, readonly [number, number]>>> = {
  left: [1, 0],
  right: [-1, 0],
  above: [0, 1],
  below: [0, -1],
  'upper left': [0.5, 0.5],
  'upper right': [-0.5, 0.5],
};

export function lightFactor(light: Light, x: number, y: number): number {
  if (light === 'even') return 1;
  if (light === 'spot') return 1 - FALL_OFF * Math.min(1, Math.hypot(x, y) / Math.SQRT2);
  const [dx, dy] = DIRECTIONS[light] ?? [0, 0];
  return 1 - (FALL_OFF * (1 + dx * x + dy * y)) / 2;
}

export interface LumaSample {
  x: number;
  y: number;
  luma: number;
}

/** Below this brightness (of 255) a background says too little about light. */
const MIN_MEAN_LUMA = 4;
/** A quarter of the brightness across the picture is the least that counts as directed light. */
const MIN_RELATIVE_CHANGE = 0.25;

/**
 * The light whose fall-off explains the background's luminance best (least squares over the eight
 * patterns), or `even` when no pattern explains a visible part of it.
 */
export function classifyLight(samples: readonly LumaSample[]): Light {
  const count = samples.length;
  let sum = 0;
  for (const sample of samples) sum += sample.luma;
  const mean = count === 0 ? 0 : sum / count;
  if (mean < MIN_MEAN_LUMA) return 'even';
  let best: Light = 'even';
  let bestGain = 0;
  for (const light of LIGHTS) {
    if (light === 'even') continue;
    // One free brightness: luma = scale * factor + offset, kept when scale is clearly positive.
    let factorSum = 0;
    for (const { x, y } of samples) factorSum += lightFactor(light, x, y);
    const factorMean = factorSum / count;
    let covariance = 0;
    let variance = 0;
    for (const { x, y, luma } of samples) {
      const factor = lightFactor(light, x, y) - factorMean;
      covariance += factor * (luma - mean);
      variance += factor * factor;
    }
    const scale = covariance / variance;
    const change = (scale * FALL_OFF) / mean;
    const gain = scale * covariance;
    if (change > MIN_RELATIVE_CHANGE && gain > bestGain) {
      bestGain = gain;
      best = light;
    }
  }
  return best;
}
