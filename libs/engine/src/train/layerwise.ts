/** Training layer by layer: the same gradients as the whole graph in a fraction of its memory, and ready in no time. */
import type { InferenceSession } from 'onnxruntime-node';
import { createSession, type Feeds, floatData, floatTensor, type OrtTensor } from '../graph/session.ts';
import { headGraph, type HeadSpec, LAYER } from '../models/layerGraphs.ts';
import { EMBEDDING, HEAD } from '../models/llama.ts';
import { INPUT, lossOutputNames, lossParameters } from '../models/losses.ts';
import { gradientName, trainedParameters } from '../models/trainingGraph.ts';
import type { Parameter } from './adamw.ts';
import {
  adapterShape,
  type Executor,
  type ExecutorChoice,
  type ExecutorOptions,
  parameterFeeds,
  passChunks,
  type PassResult,
  readPass,
} from './executor.ts';
import { LayerStack, PassArray } from './layerStack.ts';

class LayerwiseExecutor implements Executor {
  readonly choice: ExecutorChoice;
  readonly chunks: number;
  readonly parameters: readonly Parameter[];
  readonly gradients: readonly Float32Array[];
  readonly #options: ExecutorOptions;
  readonly #parts: Parts;
  /** Compiled when first asked for. */
  #lossHead: Promise<InferenceSession> | undefined;
  readonly #stateGradient: PassArray;

  constructor(options: ExecutorOptions, choice: ExecutorChoice, parts: Parts) {
    this.choice = choice;
    this.#options = options;
    this.#parts = parts;
    this.chunks = passChunks(options);
    this.parameters = parts.parameters;
    this.gradients = parts.parameters.map((p) => floatData(parts.gradients.get(p.name)!));
    this.#stateGradient = new PassArray(options.passTokens);
  }

  async gradientPass(feeds: Feeds): Promise<PassResult> {
    const { stack, head, headFeeds, headFetches } = this.#parts;
    const states = await stack.forward(feeds, true);
    const gradient = this.#stateGradient.tensor(states.dims, states.dims[0]!);
    const fetches: Record<string, OrtTensor | null> = { ...headFetches, [LAYER.inputGradient]: gradient };
    for (const name of lossOutputNames(this.#options.loss)) fetches[name] = null;
    const result = readPass(await head.run({ ...headFeeds, ...lossFeeds(feeds), [LAYER.input]: states }, fetches));
    const below = await stack.backward(floatData(gradient));
    this.#addToEmbedding(below.ids, below.gradient);
    return result;
  }

  async lossPass(feeds: Feeds): Promise<PassResult> {
    const { stack, headFeeds } = this.#parts;
    this.#lossHead ??= createSession(headGraph({ ...headSpec(this.#options), forwardOnly: true }).graph, this.#options);
    const head = await this.#lossHead;
    const states = await stack.forward(feeds, false);
    return readPass(await head.run({ ...headFeeds, ...lossFeeds(feeds), [LAYER.input]: states }));
  }

  async close(): Promise<void> {
    await this.#parts.stack.close();
    await this.#parts.head.release();
    await (await this.#lossHead)?.release();
  }

  /** Full training: the share of the input embedding; a tied one already holds the head's. */
  #addToEmbedding(ids: BigInt64Array, rows: Float32Array): void {
    const tensor = this.#parts.gradients.get(EMBEDDING);
    if (tensor === undefined) return;
    const { config } = this.#options.model;
    const width = config.hiddenSize;
    const gradient = floatData(tensor);
    if (!config.tieWordEmbeddings) gradient.fill(0);
    ids.forEach((id, t) => {
      const target = Number(id) * width;
      const source = t * width;
      for (let i = 0; i < width; i++) gradient[target + i] = gradient[target + i]! + rows[source + i]!;
    });
  }
}

interface Parts {
  readonly parameters: readonly Parameter[];
  /** By parameter name. */
  readonly gradients: ReadonlyMap<string, OrtTensor>;
  readonly stack: LayerStack;
  readonly head: InferenceSession;
  readonly headFeeds: Feeds;
  readonly headFetches: Record<string, OrtTensor>;
}

/** What the loss reads besides the states. */
function lossFeeds(feeds: Feeds): Feeds {
  const { [INPUT.ids]: _ids, [INPUT.positions]: _positions, [INPUT.mask]: _mask, ...rest } = feeds;
  return rest;
}

export function headSpec(options: ExecutorOptions): HeadSpec {
  const { model, loss, lora } = options;
  const { config, quantized } = model;
  return { config, loss, chunks: passChunks(options), trained: lora === undefined, ...(quantized && { quantized }) };
}

/**
 * Compiles one layer forward and backward and the head: as many sessions as there are kinds of layers, not layers.
 *
 * @throws EngineError `engine.weights.*` when weights do not fit.
 */
export async function createLayerwiseExecutor(options: ExecutorOptions, choice: ExecutorChoice): Promise<Executor> {
  const { model, lora, rowLength, passTokens, threads } = options;
  const adapter = lora && adapterShape(lora);
  const constant = parameterFeeds(options);
  const parameters = trainedParameters(model.config, options.loss, adapter).map((name): Parameter => {
    const tensor = constant[name]!;
    return { name, dims: tensor.dims, data: floatData(tensor) };
  });
  const gradients = new Map(parameters.map((p) => [p.name, floatTensor(new Float32Array(p.data.length), p.dims)]));
  const { graph, parameters: headParameters } = headGraph(headSpec(options));
  const stack = await LayerStack.create({
    config: model.config,
    ...(model.quantized && { quantized: model.quantized }),
    constant,
    rowLength,
    passTokens,
    threads,
    activations: choice.activations ?? 'save',
    gradients,
    ...(adapter === undefined ? {} : { adapter }),
  });
  const headNames = [
    'model.norm.weight',
    ...(model.config.tieWordEmbeddings ? [EMBEDDING] : []),
    ...Object.keys(constant).filter((name) => name.startsWith(HEAD)), // Codes and scales, when it is in 4 bits.
  ];
  return new LayerwiseExecutor(options, choice, {
    parameters,
    gradients,
    stack,
    head: await createSession(graph, { threads }),
    headFeeds: Object.fromEntries(
      [...headNames, ...lossParameters(options.loss)].map((name) => [name, constant[name]!]),
    ),
    headFetches: Object.fromEntries(headParameters.map((name) => [gradientName(name), gradients.get(name)!])),
  });
}
