import { EngineError } from '../errors.ts';
import { isJsonObject, shown } from '../json.ts';
import type { JsonObject } from '../json.ts';
import type { ModelConfig } from '../types.ts';
import { count, positive, unsupported } from './configFields.ts';
import { readRope, ropeToJson } from './ropeConfig.ts';

const ARCHITECTURES = ['LlamaForCausalLM', 'MistralForCausalLM', 'Qwen2ForCausalLM', 'Qwen3ForCausalLM'] as const;

function readArchitecture(json: JsonObject): (typeof ARCHITECTURES)[number] {
  const listed = Array.isArray(json['architectures']) ? json['architectures'] : [];
  const architecture = ARCHITECTURES.find((name) => name === listed[0]);
  if (architecture === undefined) {
    throw unsupported(
      `architecture ${shown(listed[0] ?? json['model_type'])} (supported: ${ARCHITECTURES.join(', ')})`,
    );
  }
  return architecture;
}

function refuseUnsupported(json: JsonObject, architecture: string, maxPositions: number): void {
  const activation = json['hidden_act'] ?? 'silu';
  if (activation !== 'silu') throw unsupported(`hidden_act ${shown(activation)} (supported: silu)`);
  if (json['mlp_bias'] === true) throw unsupported('mlp_bias');
  // Llama's attention_bias also puts a bias on o_proj; Qwen2's fixed q, k, v biases do not.
  if (json['attention_bias'] === true) throw unsupported(`attention_bias in ${architecture}`);
  if (json['quantization_config'] !== undefined)
    throw unsupported('quantization_config (give the unquantised weights)');
  const window = json['sliding_window'];
  const windowUsed = architecture.startsWith('Qwen') ? json['use_sliding_window'] === true : typeof window === 'number';
  if (windowUsed && typeof window === 'number' && window < maxPositions) {
    throw unsupported(`sliding_window ${window}, shorter than max_position_embeddings ${maxPositions}`);
  }
}

/**
 * Reads a Hugging Face `config.json` (already parsed) into a {@link ModelConfig}. What the engine cannot compute is refused
 * here by name, so that no model runs with a feature left out.
 *
 * @throws EngineError `engine.model.unsupported`, `engine.model.bad_config`
 */
export function parseModelConfig(value: unknown): ModelConfig {
  if (!isJsonObject(value)) throw new EngineError('engine.model.bad_config', 'config.json is not an object');
  const json = value;
  const architecture = readArchitecture(json);
  const hiddenSize = count(json, 'hidden_size');
  const numHeads = count(json, 'num_attention_heads');
  const numKvHeads = count(json, 'num_key_value_heads', numHeads);
  const maxPositions = count(json, 'max_position_embeddings');
  const headDim = count(json, 'head_dim', hiddenSize / numHeads);
  if (numHeads % numKvHeads !== 0 || headDim % 2 !== 0) {
    throw new EngineError(
      'engine.model.bad_config',
      `config.json: ${numHeads} heads cannot share ${numKvHeads} kv heads of ${headDim} dimensions`,
    );
  }
  refuseUnsupported(json, architecture, maxPositions);
  const { theta, scaling } = readRope(json, maxPositions);
  return {
    hiddenSize,
    intermediateSize: count(json, 'intermediate_size'),
    numLayers: count(json, 'num_hidden_layers'),
    numHeads,
    numKvHeads,
    headDim,
    vocabSize: count(json, 'vocab_size'),
    maxPositions,
    rmsNormEps: positive(json, 'rms_norm_eps', 1e-6),
    ropeTheta: theta,
    ...(scaling && { ropeScaling: scaling }),
    tieWordEmbeddings: json['tie_word_embeddings'] === true,
    ...(architecture === 'Qwen2ForCausalLM' && { attentionBias: true }),
    ...(architecture === 'Qwen3ForCausalLM' && { qkNorm: true }),
  };
}

/** The `config.json` that {@link parseModelConfig} and Transformers read back: of a Llama, or of a Qwen by what tells it. */
export function modelConfigToJson(config: ModelConfig, ids: { bos?: number; eos?: number } = {}): JsonObject {
  const [architecture, type] = config.qkNorm
    ? ['Qwen3ForCausalLM', 'qwen3']
    : config.attentionBias
      ? ['Qwen2ForCausalLM', 'qwen2']
      : ['LlamaForCausalLM', 'llama'];
  return {
    architectures: [architecture],
    model_type: type,
    hidden_act: 'silu',
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.numLayers,
    num_attention_heads: config.numHeads,
    num_key_value_heads: config.numKvHeads,
    head_dim: config.headDim,
    vocab_size: config.vocabSize,
    max_position_embeddings: config.maxPositions,
    rms_norm_eps: config.rmsNormEps,
    rope_theta: config.ropeTheta,
    rope_scaling: config.ropeScaling === undefined ? null : ropeToJson(config.ropeScaling),
    tie_word_embeddings: config.tieWordEmbeddings,
    // Qwen2 always has its biases, whatever this says.
    attention_bias: false,
    ...(type === 'llama' && { mlp_bias: false }),
    bos_token_id: ids.bos ?? null,
    eos_token_id: ids.eos ?? null,
    torch_dtype: 'float32',
  };
}
