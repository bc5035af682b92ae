import type { LoraTarget, ModelConfig } from '../types.ts';
import { LORA_TARGETS } from '../types.ts';

/** Hugging Face's name of a linear module: `model.layers.3.self_attn.q_proj`. */
export function moduleName(layer: number, target: LoraTarget): string {
  const block = target === 'gate_proj' || target === 'up_proj' || target === 'down_proj' ? 'mlp' : 'self_attn';
  return `model.layers.${layer}.${block}.${target}`;
}

/** `[out, in]` of a linear module. */
export function moduleShape(config: ModelConfig, target: LoraTarget): [out: number, in_: number] {
  const { hiddenSize, intermediateSize, numHeads, numKvHeads, headDim } = config;
  const attention = numHeads * headDim;
  const shapes: Record<LoraTarget, [out: number, in_: number]> = {
    q_proj: [attention, hiddenSize],
    k_proj: [numKvHeads * headDim, hiddenSize],
    v_proj: [numKvHeads * headDim, hiddenSize],
    o_proj: [hiddenSize, attention],
    gate_proj: [intermediateSize, hiddenSize],
    up_proj: [intermediateSize, hiddenSize],
    down_proj: [hiddenSize, intermediateSize],
  };
  return shapes[target];
}

/** Every parameter a model of this configuration has, with its shape, in the order of Transformers' modules. */
export function parameterShapes(config: ModelConfig): Map<string, number[]> {
  const { hiddenSize, vocabSize, headDim } = config;
  const shapes = new Map<string, number[]>([['model.embed_tokens.weight', [vocabSize, hiddenSize]]]);
  for (let layer = 0; layer < config.numLayers; layer++) {
    const prefix = `model.layers.${layer}`;
    for (const target of LORA_TARGETS) {
      const [out, in_] = moduleShape(config, target);
      shapes.set(`${moduleName(layer, target)}.weight`, [out, in_]);
      const biased = target === 'q_proj' || target === 'k_proj' || target === 'v_proj';
      if (config.attentionBias && biased) shapes.set(`${moduleName(layer, target)}.bias`, [out]);
    }
    if (config.qkNorm) {
      shapes.set(`${prefix}.self_attn.q_norm.weight`, [headDim]);
      shapes.set(`${prefix}.self_attn.k_norm.weight`, [headDim]);
    }
    shapes.set(`${prefix}.input_layernorm.weight`, [hiddenSize]);
    shapes.set(`${prefix}.post_attention_layernorm.weight`, [hiddenSize]);
  }
  shapes.set('model.norm.weight', [hiddenSize]);
  if (!config.tieWordEmbeddings) shapes.set('lm_head.weight', [vocabSize, hiddenSize]);
  return shapes;
}
