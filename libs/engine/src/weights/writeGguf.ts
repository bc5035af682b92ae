import { EngineError } from '../errors.ts';
import { checkLora } from '../adapters/lora.ts';
import { inverseFrequencies } from '../models/rope.ts';
import { weightShapes } from '../models/llama.ts';
import { ggufTokenizerEntries } from '../tokenizer/toGguf.ts';
import type { TokenizerFiles } from '../tokenizer/tokenizer.ts';
import type { BaseModel, LoraWeights, ModelConfig, RopeScaling, Tensor } from '../types.ts';
import { writeGguf, type GgufEntry, type GgufTensorSource, type GgufWriteType } from './ggufEncode.ts';
import { ggufArchitecture, ggufTensorName, ROPE_FACTORS, rowOrder } from './ggufNames.ts';
import type { RowOrder } from './ggufBlocks.ts';
import { dequantizeTensor } from './quantize.ts';
import { yarnAttentionFactor } from './ropeConfig.ts';

export interface WriteGgufOptions {
  /** What matrices are written as (default F16); norms and biases are always F32. */
  readonly type?: GgufWriteType;
  /** `general.name` */
  readonly name?: string;
  /** From `readTokenizerFiles` or `ggufTokenizerFiles`; without it the file has no tokenizer. */
  readonly tokenizer?: TokenizerFiles;
  /** Tokens that end a text, when `eos_token` is not all of them. */
  readonly eosTokenIds?: readonly number[];
}

/** `general.file_type` */
const FILE_TYPE: Record<GgufWriteType, number> = { F32: 0, F16: 1, Q8_0: 7 };
const QUANTIZATION_VERSION = 2;
const Q8_BLOCK = 32;

function reordered(tensor: Tensor, order: RowOrder | undefined): Tensor {
  if (order === undefined) return tensor;
  const rows = tensor.dims[0]!;
  const width = tensor.data.length / rows;
  const data = new Float32Array(tensor.data.length);
  for (let row = 0; row < rows; row++) {
    const from = order(row) * width;
    data.set(tensor.data.subarray(from, from + width), row * width);
  }
  return { dims: tensor.dims, data };
}

function unsupported(what: string): EngineError {
  return new EngineError('engine.model.unsupported', `this model cannot be written to GGUF: ${what}`);
}

function scalingEntries(prefix: string, scaling: RopeScaling | undefined): GgufEntry[] {
  if (scaling?.type !== 'linear' && scaling?.type !== 'yarn') return [];
  const key = (name: string): string => `${prefix}.rope.scaling.${name}`;
  const entries: GgufEntry[] = [
    { key: key('type'), text: scaling.type },
    { key: key('factor'), f32: scaling.factor },
  ];
  if (scaling.type === 'linear') return entries;
  if (!scaling.truncate) throw unsupported('rope_type yarn with truncate false');
  return [
    ...entries,
    { key: key('original_context_length'), u32: scaling.originalMaxPositions },
    { key: key('yarn_beta_fast'), f32: scaling.betaFast },
    { key: key('yarn_beta_slow'), f32: scaling.betaSlow },
    { key: key('attn_factor'), f32: scaling.attentionFactor / yarnAttentionFactor(scaling.factor) },
  ];
}

function configEntries(config: ModelConfig): GgufEntry[] {
  const prefix = ggufArchitecture(config);
  const key = (name: string): string => `${prefix}.${name}`;
  return [
    { key: key('context_length'), u32: config.maxPositions },
    { key: key('embedding_length'), u32: config.hiddenSize },
    { key: key('block_count'), u32: config.numLayers },
    { key: key('feed_forward_length'), u32: config.intermediateSize },
    { key: key('attention.head_count'), u32: config.numHeads },
    { key: key('attention.head_count_kv'), u32: config.numKvHeads },
    { key: key('attention.key_length'), u32: config.headDim },
    { key: key('attention.value_length'), u32: config.headDim },
    { key: key('attention.layer_norm_rms_epsilon'), f32: config.rmsNormEps },
    { key: key('rope.dimension_count'), u32: config.headDim },
    { key: key('rope.freq_base'), f32: config.ropeTheta },
    { key: key('vocab_size'), u32: config.vocabSize },
    ...scalingEntries(prefix, config.ropeScaling),
  ];
}

/** Divisors of the frequencies, `[headDim / 2]`, for the scalings that files hold in that form. */
function ropeFactors(config: ModelConfig): Tensor | undefined {
  const { ropeScaling, ...plain } = config;
  if (ropeScaling?.type !== 'llama3' && ropeScaling?.type !== 'factors') return undefined;
  const stretched = inverseFrequencies(config);
  const data = Float32Array.from(inverseFrequencies(plain), (frequency, i) => frequency / stretched[i]!);
  return { dims: [data.length], data };
}

/**
 * Writes a model, merged or not, as a GGUF file that llama.cpp and Transformers read: Llama and Mistral as `llama`, Qwen2
 * and Qwen3 under their names. 4-bit weights are written as the floats they stand for. Matrices whose rows are no multiple
 * of 32 become F16 where Q8_0 was asked for.
 *
 * @throws EngineError `engine.model.unsupported`, `engine.tokenizer.unsupported` with what the format cannot say,
 * `engine.weights.missing`
 */
export async function writeGgufModel(path: string, model: BaseModel, options: WriteGgufOptions = {}): Promise<void> {
  const { config } = model;
  const { type = 'F16' } = options;
  const architecture = ggufArchitecture(config);
  const entries: GgufEntry[] = [
    { key: 'general.architecture', text: architecture },
    { key: 'general.type', text: 'model' },
    { key: 'general.name', text: options.name ?? 'model' },
    { key: 'general.file_type', u32: FILE_TYPE[type] },
    { key: 'general.quantization_version', u32: QUANTIZATION_VERSION },
    ...configEntries(config),
    ...(options.tokenizer ? ggufTokenizerEntries(options.tokenizer, config.vocabSize, options.eosTokenIds) : []),
  ];
  const tensors: GgufTensorSource[] = [];
  const factors = ropeFactors(config);
  if (factors !== undefined) {
    tensors.push({ name: ROPE_FACTORS, dims: factors.dims, type: 'F32', load: () => factors });
  }
  for (const [name, dims] of weightShapes(config)) {
    const load = (): Tensor => {
      const quantized = model.quantized?.get(name);
      const tensor = model.weights.get(name) ?? (quantized && dequantizeTensor(quantized));
      if (tensor === undefined) throw new EngineError('engine.weights.missing', `the model has no weight ${name}`);
      return reordered(tensor, rowOrder(architecture, config, name, 'gguf'));
    };
    const fits = type !== 'Q8_0' || dims.at(-1)! % Q8_BLOCK === 0;
    tensors.push({
      name: ggufTensorName(name),
      dims,
      type: dims.length === 1 ? 'F32' : fits ? type : 'F16',
      load,
    });
  }
  await writeGguf(path, entries, tensors);
}

/**
 * Writes a LoRA adapter as the GGUF file that llama.cpp's `--lora` takes. It holds no base weights: the base must be the
 * model it was trained on.
 *
 * @param config of that base
 * @throws EngineError as `checkLora`
 */
export async function writeGgufAdapter(
  path: string,
  config: ModelConfig,
  lora: LoraWeights,
  options: { readonly type?: 'F32' | 'F16'; readonly name?: string } = {},
): Promise<void> {
  checkLora(config, lora);
  const { type = 'F32' } = options;
  const architecture = ggufArchitecture(config);
  const entries: GgufEntry[] = [
    { key: 'general.architecture', text: architecture },
    { key: 'general.type', text: 'adapter' },
    { key: 'general.name', text: options.name ?? 'adapter' },
    { key: 'general.file_type', u32: FILE_TYPE[type] },
    { key: 'adapter.type', text: 'lora' },
    { key: 'adapter.lora.alpha', f32: lora.config.alpha },
  ];
  const tensors = [...lora.tensors].flatMap(([module, { a, b }]): GgufTensorSource[] => {
    const name = ggufTensorName(`${module}.weight`);
    const order = rowOrder(architecture, config, module, 'gguf');
    return [
      { name: `${name}.lora_a`, dims: a.dims, type, load: () => a },
      { name: `${name}.lora_b`, dims: b.dims, type, load: () => reordered(b, order) },
    ];
  });
  await writeGguf(path, entries, tensors);
}
