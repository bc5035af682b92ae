/** A model's architecture from the metadata of a GGUF file, and back. */
import { EngineError } from '../errors.ts';
import { shown } from '../json.ts';
import { inverseFrequencies } from '../models/rope.ts';
import type { ModelConfig, RopeScaling } from '../types.ts';
import { unsupported } from './configFields.ts';
import type { GgufMetadata, GgufValue } from './gguf.ts';
import { GGUF_ARCHITECTURES, type GgufArchitecture } from './ggufNames.ts';
import { yarnAttentionFactor } from './ropeConfig.ts';

/** Fields that change what is computed, and that no file of the supported architectures needs. */
const FOREIGN_FIELDS = [
  'expert_count',
  'attention.scale',
  'attention.clamp_kqv',
  'attention.max_alibi_bias',
  'logit_scale',
  'residual_scale',
  'embedding_scale',
] as const;

/** What Llama 3.1 and later were stretched with; files keep only the divisors that follow from it. */
const LLAMA3_BLEND = { lowFreqFactor: 1, highFreqFactor: 4 } as const;
const LLAMA3_CONTEXTS = [8192, 4096, 2048, 1024, 512, 256, 128, 64] as const;
const FACTOR_TOLERANCE = 1e-5;

class ConfigFields {
  readonly architecture: GgufArchitecture;
  readonly #metadata: GgufMetadata;

  constructor(metadata: GgufMetadata) {
    const name = metadata.get('general.architecture');
    const known = GGUF_ARCHITECTURES.find((architecture) => architecture === name);
    if (known === undefined) {
      throw unsupported(`GGUF architecture ${shown(name)} (supported: ${GGUF_ARCHITECTURES.join(', ')})`);
    }
    const type = metadata.get('general.type') ?? 'model';
    if (type !== 'model') throw unsupported(`the GGUF file is of general.type ${shown(type)}, not a model`);
    this.architecture = known;
    this.#metadata = metadata;
  }

  get(field: string): GgufValue | undefined {
    return this.#metadata.get(`${this.architecture}.${field}`);
  }

  positive(field: string, fallback?: number): number {
    const value = this.get(field) ?? fallback;
    // Files hold such numbers in fp32: seven digits are what was meant (1e-5, not 9.99999975e-6).
    if (typeof value === 'number' && value > 0) return Number.isInteger(value) ? value : Number(value.toPrecision(7));
    // Models whose layers differ have arrays here.
    if (Array.isArray(value)) throw unsupported(`${this.architecture}.${field} differs from layer to layer`);
    throw new EngineError(
      'engine.model.bad_config',
      `GGUF metadata: ${this.architecture}.${field} must be a positive number, found ${shown(value)}`,
    );
  }

  count(field: string, fallback?: number): number {
    const value = this.positive(field, fallback);
    if (Number.isSafeInteger(value)) return value;
    throw new EngineError(
      'engine.model.bad_config',
      `GGUF metadata: ${this.architecture}.${field} must be an integer, found ${value}`,
    );
  }
}

/** The setting of Llama 3 that gives these divisors, if there is one: config.json can hold that, but not divisors. */
function scalingOfFactors(config: ModelConfig, factors: readonly number[]): RopeScaling {
  const factor = Math.max(...factors);
  const plain = inverseFrequencies(config);
  for (const originalMaxPositions of LLAMA3_CONTEXTS) {
    const scaling: RopeScaling = { type: 'llama3', factor, ...LLAMA3_BLEND, originalMaxPositions };
    const stretched = inverseFrequencies({ ...config, ropeScaling: scaling });
    const same = factors.every((f, i) => Math.abs(plain[i]! / stretched[i]! - f) <= FACTOR_TOLERANCE * f);
    if (same) return scaling;
  }
  return { type: 'factors', factors };
}

function readScaling(fields: ConfigFields): RopeScaling | undefined {
  const type = fields.get('rope.scaling.type') ?? (fields.get('rope.scale_linear') === undefined ? 'none' : 'linear');
  if (type === 'none') return undefined;
  if (type === 'linear') {
    const factor = fields.positive('rope.scaling.factor', fields.positive('rope.scale_linear', 1));
    return factor === 1 ? undefined : { type, factor };
  }
  if (type !== 'yarn') throw unsupported(`rope.scaling.type ${shown(type)} (supported: none, linear, yarn)`);
  const factor = fields.positive('rope.scaling.factor');
  return {
    type,
    factor,
    originalMaxPositions: fields.count('rope.scaling.original_context_length'),
    betaFast: fields.positive('rope.scaling.yarn_beta_fast', 32),
    betaSlow: fields.positive('rope.scaling.yarn_beta_slow', 1),
    attentionFactor: yarnAttentionFactor(factor) * fields.positive('rope.scaling.attn_factor', 1),
    truncate: true,
  };
}

export interface GgufConfigInput {
  readonly metadata: GgufMetadata;
  /** Rows of the embedding. */
  readonly vocabSize: number;
  /** Whether the file has no head of its own. */
  readonly tied: boolean;
  /** Values of `rope_freqs.weight`, `[headDim / 2]`. */
  readonly ropeFactors?: Float32Array;
}

/**
 * @returns the configuration and the architecture's name in the file
 * @throws EngineError `engine.model.unsupported` with the name of what cannot be computed, `engine.model.bad_config`
 */
export function parseGgufConfig(input: GgufConfigInput): { config: ModelConfig; architecture: GgufArchitecture } {
  const fields = new ConfigFields(input.metadata);
  const { architecture } = fields;
  for (const field of FOREIGN_FIELDS) {
    const value = fields.get(field);
    if (value !== undefined && value !== 0) throw unsupported(`${architecture}.${field} is ${shown(value)}`);
  }
  const hiddenSize = fields.count('embedding_length');
  const numHeads = fields.count('attention.head_count');
  const numKvHeads = fields.count('attention.head_count_kv', numHeads);
  const maxPositions = fields.count('context_length');
  const headDim = fields.count('attention.key_length', hiddenSize / numHeads);
  if (fields.count('attention.value_length', headDim) !== headDim)
    throw unsupported('keys and values of unlike length');
  const rotated = fields.count('rope.dimension_count', headDim);
  if (rotated !== headDim) throw unsupported(`rope.dimension_count ${rotated} of ${headDim} dimensions a head`);
  if (numHeads % numKvHeads !== 0 || headDim % 2 !== 0) {
    throw new EngineError(
      'engine.model.bad_config',
      `GGUF metadata: ${numHeads} heads cannot share ${numKvHeads} kv heads of ${headDim} dimensions`,
    );
  }
  const window = fields.get('attention.sliding_window');
  if (typeof window === 'number' && window > 0 && window < maxPositions) {
    throw unsupported(`attention.sliding_window ${window}, shorter than context_length ${maxPositions}`);
  }
  const scaling = readScaling(fields);
  const config: ModelConfig = {
    hiddenSize,
    intermediateSize: fields.count('feed_forward_length'),
    numLayers: fields.count('block_count'),
    numHeads,
    numKvHeads,
    headDim,
    vocabSize: input.vocabSize,
    maxPositions,
    rmsNormEps: fields.positive('attention.layer_norm_rms_epsilon'),
    ropeTheta: fields.positive('rope.freq_base', 10_000),
    ...(scaling && { ropeScaling: scaling }),
    tieWordEmbeddings: input.tied,
    ...(architecture === 'qwen2' && { attentionBias: true }),
    ...(architecture === 'qwen3' && { qkNorm: true }),
  };
  const { ropeFactors } = input;
  if (ropeFactors === undefined) return { config, architecture };
  if (scaling !== undefined || ropeFactors.length !== headDim / 2) {
    throw unsupported('rope_freqs.weight beside another scaling, or of another length than half a head');
  }
  return { config: { ...config, ropeScaling: scalingOfFactors(config, [...ropeFactors]) }, architecture };
}
