/** What GGUF calls the weights of Llama-family models, and how it lays out their rows. */
import type { ModelConfig } from '../types.ts';
import type { RowOrder } from './ggufBlocks.ts';

/** GGUF's architectures: `llama` also stands for Mistral. */
export const GGUF_ARCHITECTURES = ['llama', 'qwen2', 'qwen3'] as const;
export type GgufArchitecture = (typeof GGUF_ARCHITECTURES)[number];

const OUTSIDE: ReadonlyMap<string, string> = new Map([
  ['model.embed_tokens.weight', 'token_embd.weight'],
  ['model.norm.weight', 'output_norm.weight'],
  ['lm_head.weight', 'output.weight'],
]);

const IN_LAYER: ReadonlyMap<string, string> = new Map([
  ['input_layernorm', 'attn_norm'],
  ['self_attn.q_proj', 'attn_q'],
  ['self_attn.k_proj', 'attn_k'],
  ['self_attn.v_proj', 'attn_v'],
  ['self_attn.o_proj', 'attn_output'],
  ['self_attn.q_norm', 'attn_q_norm'],
  ['self_attn.k_norm', 'attn_k_norm'],
  ['post_attention_layernorm', 'ffn_norm'],
  ['mlp.gate_proj', 'ffn_gate'],
  ['mlp.up_proj', 'ffn_up'],
  ['mlp.down_proj', 'ffn_down'],
]);

const LAYER_WEIGHT = /^model\.layers\.(\d+)\.(.+)\.(weight|bias)$/;

/** The RoPE divisors that `llama` files carry for Llama 3's scaling, `[headDim / 2]`. */
export const ROPE_FACTORS = 'rope_freqs.weight';

/** GGUF's name of a weight by its Hugging Face name, both with `.weight` or `.bias`. */
export function ggufTensorName(name: string): string {
  const outside = OUTSIDE.get(name);
  if (outside !== undefined) return outside;
  const [, layer, module = '', kind] = LAYER_WEIGHT.exec(name) ?? [];
  const inLayer = IN_LAYER.get(module);
  if (inLayer === undefined) throw new RangeError(`${name} is no weight of a Llama-family model`);
  return `blk.${layer}.${inLayer}.${kind}`;
}

/**
 * `llama` files rotate neighbouring dimensions of a head together, Hugging Face's models dimension i with i + d/2: the
 * rows of q and k are interleaved on the way out, parted again on the way in. Qwen files leave them as they are.
 *
 * @returns for each row of the target the row of the source, or nothing where the order stays
 */
export function rowOrder(
  architecture: GgufArchitecture,
  config: ModelConfig,
  name: string,
  to: 'gguf' | 'hf',
): RowOrder | undefined {
  if (architecture !== 'llama' || !/\.self_attn\.[qk]_proj(\.weight|\.bias|)$/.test(name)) return undefined;
  const { headDim } = config;
  const half = headDim / 2;
  return (row) => {
    const within = row % headDim;
    const head = row - within;
    if (to === 'hf') return head + (within % half) * 2 + Math.floor(within / half);
    return head + (within % 2) * half + Math.floor(within / 2);
  };
}

/** The architecture a model is written as. */
export function ggufArchitecture(config: ModelConfig): GgufArchitecture {
  if (config.qkNorm === true) return 'qwen3';
  return config.attentionBias === true ? 'qwen2' : 'llama';
}
