/**
 * Llama-family blocks on the graph builder, shared by training and sampling. Weights and adapters are graph inputs under
 * the names of `types.ts` (`model.layers.0.self_attn.q_proj.weight`; adapters end in `.lora_A` and `.lora_B`), so one
 * graph serves full training, LoRA training and sampling, and weights are fed without being copied into the model bytes.
 */
import type { Dim, Graph, Value } from '../graph/graph.ts';
import { add, multiply } from '../graph/ops/arithmetic.ts';
import { attention, rotary, type RotaryTables } from '../graph/ops/attention.ts';
import { swiglu } from '../graph/ops/activation.ts';
import { gemm } from '../graph/ops/linear.ts';
import { rowsAt } from '../graph/ops/lookup.ts';
import { rmsNorm } from '../graph/ops/normalization.ts';
import { dequantized, quantizedGemm, type QuantizedValue } from '../graph/ops/quantized.ts';
import { reshape, shapeFrom, transpose } from '../graph/ops/shape.ts';
import { LORA_TARGETS, type LoraTarget, type ModelConfig, type QuantizedMap } from '../types.ts';
import { quantizedInput } from './quantizedWeights.ts';
import { ropeAngles } from './rope.ts';

/** Graph input that multiplies every adapter's B A: alpha / r, or 0 for the base. Broadcast to `[tokens, r]`. */
export const LORA_SCALE = 'lora_scale';

export interface AdapterShape {
  /** A name when the rank is known only at run time: the sampler stacks the adapters of its rows along it. */
  readonly r: Dim;
  /** Shape of the `lora_scale` input: `[1]` by default, `[tokens, r]` when rows carry different adapters. */
  readonly scale?: readonly Dim[];
  /** Module names with an adapter, e.g. `model.layers.0.self_attn.q_proj`. */
  readonly modules: ReadonlySet<string>;
}

export const EMBEDDING = 'model.embed_tokens.weight';
export const HEAD = 'lm_head.weight';

export const loraAName = (module: string): string => `${module}.lora_A`;
export const loraBName = (module: string): string => `${module}.lora_B`;

const MODULE_PATH: Record<LoraTarget, string> = {
  q_proj: 'self_attn.q_proj',
  k_proj: 'self_attn.k_proj',
  v_proj: 'self_attn.v_proj',
  o_proj: 'self_attn.o_proj',
  gate_proj: 'mlp.gate_proj',
  up_proj: 'mlp.up_proj',
  down_proj: 'mlp.down_proj',
};

/** Full module name of a projection of one layer. */
export function moduleName(layer: number, target: LoraTarget): string {
  return `model.layers.${layer}.${MODULE_PATH[target]}`;
}

/** `[out, in]` of a projection. */
export function projectionShape(config: ModelConfig, target: LoraTarget): readonly [number, number] {
  const { hiddenSize, intermediateSize } = config;
  const q = config.numHeads * config.headDim;
  const kv = config.numKvHeads * config.headDim;
  const shapes: Record<LoraTarget, readonly [number, number]> = {
    q_proj: [q, hiddenSize],
    k_proj: [kv, hiddenSize],
    v_proj: [kv, hiddenSize],
    o_proj: [hiddenSize, q],
    gate_proj: [intermediateSize, hiddenSize],
    up_proj: [intermediateSize, hiddenSize],
    down_proj: [hiddenSize, intermediateSize],
  };
  return shapes[target];
}

/** Every weight of the architecture with its shape, in the order of Transformers' modules. */
export function weightShapes(config: ModelConfig): Map<string, readonly number[]> {
  const shapes = new Map<string, readonly number[]>();
  shapes.set(EMBEDDING, [config.vocabSize, config.hiddenSize]);
  for (let layer = 0; layer < config.numLayers; layer++) {
    const prefix = `model.layers.${layer}`;
    for (const target of LORA_TARGETS) {
      const [out, inputs] = projectionShape(config, target);
      const module = moduleName(layer, target);
      shapes.set(`${module}.weight`, [out, inputs]);
      const biased = target === 'q_proj' || target === 'k_proj' || target === 'v_proj';
      if (config.attentionBias === true && biased) shapes.set(`${module}.bias`, [out]);
    }
    if (config.qkNorm === true) {
      shapes.set(`${prefix}.self_attn.q_norm.weight`, [config.headDim]);
      shapes.set(`${prefix}.self_attn.k_norm.weight`, [config.headDim]);
    }
    shapes.set(`${prefix}.input_layernorm.weight`, [config.hiddenSize]);
    shapes.set(`${prefix}.post_attention_layernorm.weight`, [config.hiddenSize]);
  }
  shapes.set('model.norm.weight', [config.hiddenSize]);
  if (!config.tieWordEmbeddings) shapes.set(HEAD, [config.vocabSize, config.hiddenSize]);
  return shapes;
}

/** Names that may be held in 4 bits: the projections, and the head, which then is not tied whatever the configuration says. */
export function matrixNames(config: ModelConfig): string[] {
  const layers = Array.from({ length: config.numLayers }, (_, layer) =>
    LORA_TARGETS.map((target) => `${moduleName(layer, target)}.weight`),
  );
  return [...layers.flat(), HEAD];
}

/** The model's parameters as values of one graph. */
export class LlamaValues {
  readonly graph: Graph;
  readonly config: ModelConfig;
  /** Without the matrices held in 4 bits. */
  readonly weights: ReadonlyMap<string, Value>;
  readonly quantized: QuantizedMap;
  readonly adapters: ReadonlyMap<string, { readonly a: Value; readonly b: Value }>;
  readonly loraScale: Value | undefined;
  readonly rope: RotaryTables;
  readonly #matrices = new Map<string, QuantizedValue>();
  readonly #codeTables = new Map<number, Value>();

  /**
   * Declares every weight and adapter as an input of `graph`, a 4-bit matrix when it is first used. `positions` bounds the
   * rotary tables; of `quantized` only names and shapes are read.
   */
  constructor(
    graph: Graph,
    config: ModelConfig,
    positions: number,
    adapter?: AdapterShape,
    quantized: QuantizedMap = new Map(),
  ) {
    this.graph = graph;
    this.config = config;
    const shapes = weightShapes(config);
    const weights = new Map<string, Value>();
    for (const [name, dims] of shapes) if (!quantized.has(name)) weights.set(name, graph.input(name, dims));
    this.weights = weights;
    this.quantized = quantized;
    const adapters = new Map<string, { a: Value; b: Value }>();
    for (const module of adapter?.modules ?? []) {
      const dims = shapes.get(`${module}.weight`);
      if (adapter === undefined || dims === undefined) throw new Error(`the model has no module ${module}`);
      const [out, inputs] = dims as [number, number];
      adapters.set(module, {
        a: graph.input(loraAName(module), [adapter.r, inputs]),
        b: graph.input(loraBName(module), [out, adapter.r]),
      });
    }
    this.adapters = adapters;
    this.loraScale = adapters.size > 0 ? graph.input(LORA_SCALE, adapter?.scale ?? [1]) : undefined;
    const { cos, sin } = ropeAngles(config, positions);
    const dims = [positions, config.headDim / 2];
    this.rope = {
      cos: graph.constant(dims, cos),
      sin: graph.constant(dims, sin),
      negativeSin: graph.constant(
        dims,
        sin.map((s) => -s),
      ),
    };
  }

  weight(name: string): Value {
    const value = this.weights.get(name);
    if (value === undefined) throw new Error(`the architecture has no weight ${name}`);
    return value;
  }

  /** A matrix held in 4 bits. */
  #matrix(name: string): QuantizedValue | undefined {
    const tensor = this.quantized.get(name);
    if (tensor === undefined) return undefined;
    const value = this.#matrices.get(name) ?? quantizedInput(this.graph, name, tensor, this.#codeTables);
    this.#matrices.set(name, value);
    return value;
  }

  /** The output embedding as floats, `[vocab, hidden]`. */
  get head(): Value {
    const matrix = this.#matrix(HEAD);
    if (matrix !== undefined) return dequantized(this.graph, matrix);
    return this.weight(this.config.tieWordEmbeddings ? EMBEDDING : HEAD);
  }

  /** x W^T + b + scale (x A^T) B^T: `x: [tokens, in]` gives `[tokens, out]`. */
  project(x: Value, module: string): Value {
    const { graph, adapters, loraScale } = this;
    const bias = this.weights.get(`${module}.bias`);
    const matrix = this.#matrix(`${module}.weight`);
    const base =
      matrix === undefined
        ? gemm(graph, x, this.weight(`${module}.weight`), { transB: true, ...(bias && { c: bias }) })
        : quantizedGemm(graph, x, matrix, bias);
    const adapter = adapters.get(module);
    if (adapter === undefined || loraScale === undefined) return base;
    const low = multiply(graph, gemm(graph, x, adapter.a, { transB: true }), loraScale);
    return gemm(graph, low, adapter.b, { transB: true, c: base });
  }
}

/** Rows of the input embedding: `ids: int64 [tokens]` gives `[tokens, hidden]`. */
export function embed(model: LlamaValues, ids: Value): Value {
  return rowsAt(model.graph, model.weight(EMBEDDING), ids);
}

export function inputNorm(model: LlamaValues, x: Value, layer: number): Value {
  return rmsNorm(model.graph, x, model.weight(`model.layers.${layer}.input_layernorm.weight`), model.config.rmsNormEps);
}

/** The norm between the last layer and the head. */
export function finalNorm(model: Pick<LlamaValues, 'graph' | 'config' | 'weight'>, x: Value): Value {
  return rmsNorm(model.graph, x, model.weight('model.norm.weight'), model.config.rmsNormEps);
}

export interface QueryKeyValue {
  /** `[batch, seq, numHeads * headDim]`, normalised (QK-norm) and rotated. */
  readonly q: Value;
  /** `[batch, seq, numKvHeads * headDim]`, likewise. */
  readonly k: Value;
  readonly v: Value;
}

/**
 * Queries, keys and values of one layer, ready for attention or for a cache. `x: [tokens, hidden]` after the input norm
 * with tokens = batch * seq; `positions: int64 [batch, seq]`.
 */
export function attentionInputs(model: LlamaValues, x: Value, positions: Value, layer: number): QueryKeyValue {
  const { graph, config } = model;
  const [batch, seq] = positions.dims as [Dim, Dim];
  const project = (target: 'q_proj' | 'k_proj' | 'v_proj', heads: number): Value => {
    const flat = model.project(x, moduleName(layer, target));
    const dims = [batch, seq, heads * config.headDim];
    const norm =
      config.qkNorm === true && target !== 'v_proj'
        ? model.weight(`model.layers.${layer}.self_attn.${target[0]}_norm.weight`)
        : undefined;
    if (norm === undefined) return reshape(graph, flat, dims, shapeFrom(graph, positions, dims));
    const split = [batch, seq, heads, config.headDim];
    const headed = reshape(graph, flat, split, shapeFrom(graph, positions, split));
    return reshape(graph, rmsNorm(graph, headed, norm, config.rmsNormEps), dims);
  };
  return {
    q: rotary(graph, project('q_proj', config.numHeads), positions, model.rope),
    k: rotary(graph, project('k_proj', config.numKvHeads), positions, model.rope),
    v: project('v_proj', config.numKvHeads),
  };
}

/** Repeats a mask `[batch, 1, seq, keys]` for the query heads that share a key head; done once for all layers. */
export function groupedMask(model: LlamaValues, mask: Value): Value {
  const { graph, config } = model;
  const group = config.numHeads / config.numKvHeads;
  if (group === 1) return mask;
  const [batch, , seq, keys] = mask.dims as [Dim, Dim, Dim, Dim];
  const repeats = graph.node('Expand', [mask, graph.int64s([1, group, 1, 1])], [batch, group, seq, keys]);
  return reshape(graph, repeats, [batch, 1, stackedQueries(group, seq), keys]);
}

/** Rows of one product when `group` query heads share a key head. */
export const stackedQueries = (group: number, seq: Dim): Dim =>
  typeof seq === 'number' ? seq * group : `${seq}*${group}`;

/**
 * Attention of `q: [batch, seq, numHeads * d]` over `k, v: [batch, keys, numKvHeads * d]` with the additive mask that
 * `groupedMask` gave; gives `[tokens, numHeads * d]`. Query heads that share a key head are stacked as rows of one
 * product, so keys and values are never repeated.
 */
export function attend(model: LlamaValues, qkv: QueryKeyValue, mask: Value, tokens: Dim): Value {
  const { graph, config } = model;
  const { headDim, numKvHeads: kvHeads } = config;
  const group = config.numHeads / kvHeads;
  const [batch, seq] = qkv.q.dims as [Dim, Dim];
  const split = (x: Value): Value =>
    transpose(graph, reshape(graph, x, [batch, x.dims[1]!, kvHeads, headDim]), [0, 2, 1, 3]);
  const k = split(qkv.k);
  const v = split(qkv.v);
  const width = config.numHeads * headDim;
  const alpha = 1 / Math.sqrt(headDim);
  if (group === 1) {
    const context = attention(graph, split(qkv.q), k, v, mask, alpha);
    return reshape(graph, transpose(graph, context, [0, 2, 1, 3]), [tokens, width]);
  }
  const headed = reshape(graph, qkv.q, [batch, seq, kvHeads, group, headDim]);
  const rows: Dim[] = [batch, kvHeads, stackedQueries(group, seq), headDim];
  const q = reshape(graph, transpose(graph, headed, [0, 2, 3, 1, 4]), rows);
  const context = attention(graph, q, k, v, mask, alpha);
  const back = [batch, kvHeads, group, seq, headDim];
  const ungrouped = reshape(graph, context, back, shapeFrom(graph, qkv.q, back));
  return reshape(graph, transpose(graph, ungrouped, [0, 3, 1, 2, 4]), [tokens, width]);
}

/** x + o_proj(context): closes the attention half of a layer. */
export function attentionOutput(model: LlamaValues, x: Value, context: Value, layer: number): Value {
  return add(model.graph, x, model.project(context, moduleName(layer, 'o_proj')));
}

/** x + down(silu(gate(n)) * up(n)), n being the normalised x: the MLP half of a layer. */
export function mlp(model: LlamaValues, x: Value, layer: number): Value {
  const { graph, config } = model;
  const norm = model.weight(`model.layers.${layer}.post_attention_layernorm.weight`);
  const n = rmsNorm(graph, x, norm, config.rmsNormEps);
  const gate = model.project(n, moduleName(layer, 'gate_proj'));
  const up = model.project(n, moduleName(layer, 'up_proj'));
  return add(graph, x, model.project(swiglu(graph, gate, up), moduleName(layer, 'down_proj')));
}

/**
 * Hidden states after the last layer, before the final norm, `[tokens, hidden]`, of whole sequences. `ids, positions: int64 [batch, seq]`,
 * `mask: [batch, 1, seq, seq]` (0 where a token may look, a large negative number elsewhere).
 */
export function llamaStates(model: LlamaValues, ids: Value, positions: Value, mask: Value): Value {
  const { graph, config } = model;
  const tokens = 'tokens';
  const rows = groupedMask(model, mask);
  let x = embed(model, graph.node('Reshape', [ids, graph.int64s([-1])], [tokens], { type: 'int64' }));
  for (let layer = 0; layer < config.numLayers; layer++) x = llamaLayer(model, x, positions, rows, layer);
  return x;
}

/** One layer over whole sequences: `x: [tokens, hidden]` to the same shape; `mask` as `groupedMask` gave it. */
export function llamaLayer(model: LlamaValues, x: Value, positions: Value, mask: Value, layer: number): Value {
  const qkv = attentionInputs(model, inputNorm(model, x, layer), positions, layer);
  const context = attend(model, qkv, mask, x.dims[0]!);
  return mlp(model, attentionOutput(model, x, context, layer), layer);
}
