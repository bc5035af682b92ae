/**
 * The layers of a model, run one after the other through sessions that all layers of like make share. What lives from the
 * forward to the backward pass is held here, in arrays that runs write into directly: each layer's input and, with saved
 * activations, its matrix products.
 *
 * A pass is `forward` with `keep`, then `backward`; `forward` without it keeps nothing and may come at any time between.
 */
import type { InferenceSession } from 'onnxruntime-node';
import type { Dim, Graph, Value } from '../graph/graph.ts';
import { createSession, type Feeds, floatData, floatTensor, type OrtTensor } from '../graph/session.ts';
import { LAYER, layerGraphs, type LayerSpec } from '../models/layerGraphs.ts';
import { type AdapterShape, EMBEDDING, LORA_SCALE, stackedQueries } from '../models/llama.ts';
import { INPUT } from '../models/losses.ts';
import { gradientName } from '../models/trainingGraph.ts';
import type { ActivationPolicy, ModelConfig, QuantizedMap } from '../types.ts';

export interface LayerStackOptions {
  readonly config: ModelConfig;
  /** Which of the weights are held in 4 bits; their codes are among `constant`. */
  readonly quantized?: QuantizedMap;
  /** Weights, adapters and the adapters' scale under their full names. */
  readonly constant: Feeds;
  /** Adapters, with full module names. */
  readonly adapter?: AdapterShape;
  /** Longest row, in tokens. */
  readonly rowLength: number;
  /** Expected upper bound of the tokens of one pass: arrays are made for so many at once. */
  readonly passTokens: number;
  readonly threads: number;
  readonly activations: ActivationPolicy;
  /** Where the gradient of each trained parameter goes, by full name. Layers below the lowest of them are not run back. */
  readonly gradients: ReadonlyMap<string, OrtTensor>;
}

interface CompiledLayer {
  readonly forward: InferenceSession;
  readonly backward: InferenceSession;
  readonly saved: readonly Value[];
}

interface Layer {
  readonly compiled: CompiledLayer;
  readonly feeds: Feeds;
  readonly gradients: Record<string, OrtTensor>;
  readonly input: PassArray;
  readonly saved: readonly PassArray[];
}

interface PassInputs {
  readonly tokens: number;
  readonly ids: BigInt64Array;
  /** Positions and mask, the same for all layers. */
  readonly feeds: Feeds;
  /** Sizes that graphs know by name. */
  readonly sizes: ReadonlyMap<string, number>;
}

/** An array for a value that grows with the tokens of a pass; its size is settled by the first pass that needs it. */
export class PassArray {
  readonly #passTokens: number;
  #data = new Float32Array(0);

  constructor(passTokens: number) {
    this.#passTokens = passTokens;
  }

  /** A tensor over the start of the array, for a pass of `tokens`. */
  tensor(dims: readonly number[], tokens: number): OrtTensor {
    const size = dims.reduce((a, b) => a * b, 1);
    // Pages that no pass touches cost nothing, so the room is made for the longest pass.
    if (this.#data.length < size)
      this.#data = new Float32Array(size * Math.max(1, Math.ceil(this.#passTokens / tokens)));
    return floatTensor(this.#data.subarray(0, size), dims);
  }
}

async function compileLayer(
  options: LayerStackOptions,
  modules: readonly string[] | undefined,
  quantized: QuantizedMap,
): Promise<CompiledLayer> {
  const { config, rowLength, adapter, activations } = options;
  const session = (graph: Graph): Promise<InferenceSession> => createSession(graph, { threads: options.threads });
  const spec: LayerSpec = {
    config,
    positions: rowLength,
    quantized,
    ...(adapter === undefined ? {} : { adapter: { ...adapter, modules: new Set(modules) } }),
  };
  const { forward, backward, saved } = layerGraphs(spec, activations);
  return { forward: await session(forward), backward: await session(backward), saved };
}

export class LayerStack {
  readonly #config: ModelConfig;
  readonly #embedding: Float32Array;
  readonly #layers: readonly Layer[];
  /** Layers below have nothing to train. */
  readonly #lowest: number;
  /** States that are not kept, and gradients on their way down: read from one, written to the other, never one for both. */
  readonly #flow: readonly [PassArray, PassArray];
  readonly #mask: PassArray;
  /** What the last kept forward pass leaves to the backward pass. */
  #pass: PassInputs | undefined;

  private constructor({ config, constant, passTokens }: LayerStackOptions, layers: readonly Layer[]) {
    this.#config = config;
    this.#embedding = floatData(constant[EMBEDDING]!);
    this.#layers = layers;
    this.#lowest = layers.findIndex((layer) => Object.keys(layer.gradients).length > 0);
    this.#flow = [new PassArray(passTokens), new PassArray(passTokens)];
    this.#mask = new PassArray(passTokens);
  }

  static async create(options: LayerStackOptions): Promise<LayerStack> {
    const { config, constant, adapter, passTokens } = options;
    const compiled = new Map<string, CompiledLayer>();
    const layers: Layer[] = [];
    for (let index = 0; index < config.numLayers; index++) {
      const prefix = `model.layers.${index}.`;
      const own = <T>(entries: Iterable<readonly [string, T]>): (readonly [string, T])[] =>
        [...entries].flatMap(([name, value]) =>
          name.startsWith(prefix) ? [[inFirstLayer(name), value] as const] : [],
        );
      const modules = adapter && own([...adapter.modules].map((name) => [name, name])).map(([name]) => name);
      const quantized: QuantizedMap = new Map(own(options.quantized ?? []));
      const kinds = [...quantized].map(([name, { blockSize, mins }]) => `${name}:${blockSize}:${mins !== undefined}`);
      const key = [...(modules ?? []), ...kinds].toSorted().join();
      const layer = compiled.get(key) ?? (await compileLayer(options, modules, quantized));
      compiled.set(key, layer);
      const scale = constant[LORA_SCALE];
      const gradients = own(options.gradients).map(([name, tensor]) => [gradientName(name), tensor] as const);
      layers.push({
        compiled: layer,
        feeds: {
          ...Object.fromEntries(own(Object.entries(constant))),
          ...(scale !== undefined && modules?.length ? { [LORA_SCALE]: scale } : {}),
        },
        gradients: Object.fromEntries(gradients),
        input: new PassArray(passTokens),
        saved: layer.saved.map(() => new PassArray(passTokens)),
      });
    }
    return new LayerStack(options, layers);
  }

  /**
   * The state after the last layer, `[tokens, hidden]`, valid until the next pass, for the `ids`, `positions` and `mask`
   * of `feeds`. With `keep`, `backward` may follow.
   */
  async forward(feeds: Feeds, keep: boolean): Promise<OrtTensor> {
    const inputs = this.#inputs(feeds);
    if (keep) this.#pass = inputs;
    const { tokens } = inputs;
    const dims = [tokens, this.#config.hiddenSize];
    const array = (index: number): PassArray =>
      (keep ? this.#layers[index]?.input : undefined) ?? this.#flow[index % 2 === 0 ? 0 : 1];
    let state = array(0).tensor(dims, tokens);
    this.#embed(inputs.ids, floatData(state));
    for (const [index, layer] of this.#layers.entries()) {
      const next = array(index + 1).tensor(dims, tokens);
      const fetches: Record<string, OrtTensor> = { [LAYER.output]: next };
      if (keep && index >= this.#lowest) Object.assign(fetches, savedTensors(layer, inputs));
      await layer.compiled.forward.run({ ...layer.feeds, ...inputs.feeds, [LAYER.input]: state }, fetches);
      state = next;
    }
    return state;
  }

  /**
   * Carries the gradient with respect to the last kept forward pass's result down the layers, writing the gradients of the
   * trained parameters where the options said. Returns the gradient with respect to the embedded tokens, valid until the
   * next pass, and their ids; where nothing below is trained it is that of the lowest layer that was run.
   */
  async backward(gradient: Float32Array): Promise<{ ids: BigInt64Array; gradient: Float32Array }> {
    const inputs = this.#pass;
    if (inputs === undefined) throw new Error('backward without a kept forward pass');
    this.#pass = undefined;
    const { tokens } = inputs;
    const dims = [tokens, this.#config.hiddenSize];
    let flow = floatTensor(gradient, dims);
    for (let index = this.#layers.length - 1; index >= Math.max(0, this.#lowest); index--) {
      const layer = this.#layers[index]!;
      const feeds = {
        ...layer.feeds,
        ...inputs.feeds,
        ...savedTensors(layer, inputs),
        [LAYER.input]: layer.input.tensor(dims, tokens),
        [LAYER.outputGradient]: flow,
      };
      const below = this.#flow[index % 2 === 0 ? 0 : 1].tensor(dims, tokens);
      await layer.compiled.backward.run(feeds, { ...layer.gradients, [LAYER.inputGradient]: below });
      flow = below;
    }
    return { ids: inputs.ids, gradient: floatData(flow) };
  }

  async close(): Promise<void> {
    for (const { forward, backward } of new Set(this.#layers.map((layer) => layer.compiled))) {
      await forward.release();
      await backward.release();
    }
  }

  #inputs(feeds: Feeds): PassInputs {
    const { [INPUT.ids]: ids, [INPUT.positions]: positions, [INPUT.mask]: mask } = feeds;
    const [batch, seq] = ids!.dims as [number, number];
    const tokens = batch * seq;
    const group = this.#config.numHeads / this.#config.numKvHeads;
    const sizes = new Map([
      ['tokens', tokens],
      ['batch', batch],
      ['seq', seq],
    ]);
    const rows = stackedQueries(group, 'seq');
    if (typeof rows === 'string') sizes.set(rows, group * seq);
    // Repeated here, once a pass, for the query heads that share a key head; see `groupedMask`.
    const repeated = group === 1 ? mask! : this.#mask.tensor([batch, 1, group * seq, seq], tokens);
    if (group > 1) repeatBlocks(floatData(mask!), seq * seq, group, floatData(repeated));
    return {
      tokens,
      sizes,
      ids: ids!.data as BigInt64Array,
      feeds: { [LAYER.positions]: positions!, [LAYER.mask]: repeated },
    };
  }

  #embed(ids: BigInt64Array, states: Float32Array): void {
    const width = this.#config.hiddenSize;
    ids.forEach((id, t) => {
      const start = Number(id) * width;
      states.set(this.#embedding.subarray(start, start + width), t * width);
    });
  }
}

/** The name that a layer's tensor has in the layer graphs. */
export const inFirstLayer = (name: string): string => name.replace(/^model\.layers\.\d+\./, 'model.layers.0.');

/** The arrays of a layer's saved activations, shaped for a pass. */
function savedTensors(layer: Layer, { tokens, sizes }: PassInputs): Record<string, OrtTensor> {
  const size = (dim: Dim): number => (typeof dim === 'number' ? dim : sizes.get(dim)!);
  return Object.fromEntries(
    layer.compiled.saved.map((value, i) => [value.name, layer.saved[i]!.tensor(value.dims.map(size), tokens)]),
  );
}

/** Each block of `size` numbers `times` times. */
function repeatBlocks(source: Float32Array, size: number, times: number, target: Float32Array): void {
  for (let start = 0, at = 0; start < source.length; start += size) {
    for (let i = 0; i < times; i++, at += size) target.set(source.subarray(start, start + size), at);
  }
}
