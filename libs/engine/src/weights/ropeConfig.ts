import { isJsonObject, shown, type JsonObject } from '../json.ts';
import type { RopeScaling } from '../types.ts';
import { count, positive, unsupported } from './configFields.ts';

const SUPPORTED = 'default, linear, llama3, yarn, dynamic';

/** The published defaults of YaRN: full turns within the first context at which the blend begins and ends. */
const YARN_BETA_FAST = 32;
const YARN_BETA_SLOW = 1;

/** How far apart queries and keys grow by stretching (https://arxiv.org/abs/2309.00071, section 3.4). */
export function yarnAttentionFactor(factor: number, scale = 1): number {
  return factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1;
}

function readYarn(rope: JsonObject, maxPositions: number): RopeScaling {
  const originalMaxPositions = count(rope, 'original_max_position_embeddings', maxPositions);
  const factor = positive(rope, 'factor', maxPositions / originalMaxPositions);
  const [mscale, mscaleAll] = [rope['mscale'], rope['mscale_all_dim']];
  const attentionFactor =
    typeof mscale === 'number' && typeof mscaleAll === 'number' && mscale !== 0 && mscaleAll !== 0
      ? yarnAttentionFactor(factor, mscale) / yarnAttentionFactor(factor, mscaleAll)
      : yarnAttentionFactor(factor);
  return {
    type: 'yarn',
    factor,
    originalMaxPositions,
    betaFast: positive(rope, 'beta_fast', YARN_BETA_FAST),
    betaSlow: positive(rope, 'beta_slow', YARN_BETA_SLOW),
    attentionFactor: positive(rope, 'attention_factor', attentionFactor),
    truncate: rope['truncate'] !== false,
  };
}

/**
 * RoPE settings, which stand in `rope_parameters` since Transformers 5, in `rope_theta` and `rope_scaling` before.
 * @throws EngineError `engine.model.unsupported` with the type's name, `engine.model.bad_config`
 */
export function readRope(json: JsonObject, maxPositions: number): { theta: number; scaling?: RopeScaling } {
  const rope = [json['rope_parameters'], json['rope_scaling'], {}].find(isJsonObject) ?? {};
  const theta = positive(rope, 'rope_theta', positive(json, 'rope_theta', 10_000));
  const partial = rope['partial_rotary_factor'] ?? json['partial_rotary_factor'] ?? 1;
  if (partial !== 1) throw unsupported(`partial_rotary_factor ${shown(partial)}`);
  const type = rope['rope_type'] ?? rope['type'] ?? 'default';
  switch (type) {
    case 'default':
      return { theta };
    case 'linear':
      return { theta, scaling: { type: 'linear', factor: positive(rope, 'factor') } };
    case 'dynamic':
      return { theta, scaling: { type: 'dynamic', factor: positive(rope, 'factor') } };
    case 'yarn':
      return { theta, scaling: readYarn(rope, maxPositions) };
    case 'llama3':
      return {
        theta,
        scaling: {
          type: 'llama3',
          factor: positive(rope, 'factor'),
          lowFreqFactor: positive(rope, 'low_freq_factor'),
          highFreqFactor: positive(rope, 'high_freq_factor'),
          originalMaxPositions: count(rope, 'original_max_position_embeddings'),
        },
      };
    default:
      throw unsupported(`rope_type ${shown(type)} (supported: ${SUPPORTED})`);
  }
}

/** `rope_scaling` of a `config.json`. @throws EngineError `engine.model.unsupported` for factors that have no form there */
export function ropeToJson(scaling: RopeScaling): JsonObject {
  switch (scaling.type) {
    case 'linear':
    case 'dynamic':
      return { rope_type: scaling.type, factor: scaling.factor };
    case 'llama3':
      return {
        rope_type: 'llama3',
        factor: scaling.factor,
        low_freq_factor: scaling.lowFreqFactor,
        high_freq_factor: scaling.highFreqFactor,
        original_max_position_embeddings: scaling.originalMaxPositions,
      };
    case 'yarn':
      return {
        rope_type: 'yarn',
        factor: scaling.factor,
        original_max_position_embeddings: scaling.originalMaxPositions,
        beta_fast: scaling.betaFast,
        beta_slow: scaling.betaSlow,
        attention_factor: scaling.attentionFactor,
        truncate: scaling.truncate,
      };
    case 'factors':
      throw unsupported('config.json cannot hold the rope_freqs of this GGUF file (only those of Llama 3 are known)');
  }
}
