/** Angles of rotary position embedding, with the scalings of long-context models. */
import { EngineError } from '../errors.ts';
import type { ModelConfig, RopeScaling } from '../types.ts';

type Llama3 = Extract<RopeScaling, { type: 'llama3' }>;
type Yarn = Extract<RopeScaling, { type: 'yarn' }>;

/** Llama 3.1: long wavelengths are stretched by the factor, short ones kept, with a linear blend between. */
function llama3Frequency(frequency: number, scaling: Llama3): number {
  const turns = (scaling.originalMaxPositions * frequency) / (2 * Math.PI);
  if (turns < scaling.lowFreqFactor) return frequency / scaling.factor;
  if (turns > scaling.highFreqFactor) return frequency;
  const blend = (turns - scaling.lowFreqFactor) / (scaling.highFreqFactor - scaling.lowFreqFactor);
  return frequency * (blend + (1 - blend) / scaling.factor);
}

/** YaRN (https://arxiv.org/abs/2309.00071, section 3.2): the blend runs over dimensions, between two numbers of turns. */
function yarnFrequency(frequency: number, pair: number, config: ModelConfig, scaling: Yarn): number {
  const { headDim, ropeTheta } = config;
  const dimensionOf = (turns: number): number =>
    (headDim * Math.log(scaling.originalMaxPositions / (turns * 2 * Math.PI))) / (2 * Math.log(ropeTheta));
  const [low, high] = [dimensionOf(scaling.betaFast), dimensionOf(scaling.betaSlow)];
  const from = Math.max(scaling.truncate ? Math.floor(low) : low, 0);
  const to = Math.min(scaling.truncate ? Math.ceil(high) : high, headDim - 1);
  // As the reference has it: a blend of no width is a very steep one.
  const stretched = Math.min(1, Math.max(0, (pair - from) / (from === to ? 0.001 : to - from)));
  return frequency * (1 - stretched + stretched / scaling.factor);
}

/** Rotation per position of each pair of dimensions, `[headDim / 2]`, after scaling. */
export function inverseFrequencies(config: ModelConfig): Float64Array {
  const half = config.headDim / 2;
  const scaling = config.ropeScaling;
  return Float64Array.from({ length: half }, (_, i) => {
    const frequency = config.ropeTheta ** (-i / half);
    switch (scaling?.type) {
      case undefined:
      case 'dynamic':
        return frequency;
      case 'linear':
        return frequency / scaling.factor;
      case 'llama3':
        return llama3Frequency(frequency, scaling);
      case 'yarn':
        return yarnFrequency(frequency, i, config, scaling);
      case 'factors':
        return frequency / scaling.factors[i]!;
    }
  });
}

/**
 * Cosines and sines for positions 0 to `positions` - 1, each `[positions, headDim / 2]`. YaRN's attention factor, which
 * multiplies queries and keys, is in them.
 *
 * @throws EngineError `engine.model.unsupported` for dynamic scaling beyond `maxPositions`, where it depends on the length
 */
export function ropeAngles(config: ModelConfig, positions: number): { cos: Float32Array; sin: Float32Array } {
  if (config.ropeScaling?.type === 'dynamic' && positions > config.maxPositions) {
    throw new EngineError(
      'engine.model.unsupported',
      `${positions} positions with rope_type dynamic: it is computed up to max_position_embeddings ${config.maxPositions} only`,
    );
  }
  const frequencies = inverseFrequencies(config);
  const half = frequencies.length;
  const factor = config.ropeScaling?.type === 'yarn' ? config.ropeScaling.attentionFactor : 1;
  const angle = (i: number): number => Math.floor(i / half) * frequencies[i % half]!;
  return {
    cos: Float32Array.from({ length: positions * half }, (_, i) => factor * Math.cos(angle(i))),
    sin: Float32Array.from({ length: positions * half }, (_, i) => factor * Math.sin(angle(i))),
  };
}
