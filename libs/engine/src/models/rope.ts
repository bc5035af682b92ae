/** Angles of rotary position embedding, with the scalings of long-context Llama models. */
import type { ModelConfig } from '../types.ts';

/** Rotation per position of each pair of dimensions, `[headDim / 2]`, after scaling. */
export function inverseFrequencies(config: ModelConfig): Float64Array {
  const half = config.headDim / 2;
  const scaling = config.ropeScaling;
  return Float64Array.from({ length: half }, (_, i) => {
    const frequency = config.ropeTheta ** (-i / half);
    if (scaling === undefined) return frequency;
    if (scaling.type === 'linear') return frequency / scaling.factor;
    // Llama 3.1: long wavelengths are stretched by the factor, short ones kept, with a linear blend between.
    const turns = (scaling.originalMaxPositions * frequency) / (2 * Math.PI);
    if (turns < scaling.lowFreqFactor) return frequency / scaling.factor;
    if (turns > scaling.highFreqFactor) return frequency;
    const blend = (turns - scaling.lowFreqFactor) / (scaling.highFreqFactor - scaling.lowFreqFactor);
    return frequency * (blend + (1 - blend) / scaling.factor);
  });
}

/** Cosines and sines for positions 0 to `positions` - 1, each `[positions, headDim / 2]`. */
export function ropeAngles(config: ModelConfig, positions: number): { cos: Float32Array; sin: Float32Array } {
  const frequencies = inverseFrequencies(config);
  const half = frequencies.length;
  const angle = (i: number): number => Math.floor(i / half) * frequencies[i % half]!;
  return {
    cos: Float32Array.from({ length: positions * half }, (_, i) => Math.cos(angle(i))),
    sin: Float32Array.from({ length: positions * half }, (_, i) => Math.sin(angle(i))),
  };
}
