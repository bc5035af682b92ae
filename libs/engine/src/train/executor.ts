/**
 * The seam between the training loop and how a pass is computed. The whole-graph executor runs forward and backward as
 * one session; another can go layer by layer and meet the same interface.
 */
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { EngineError } from '../errors.ts';
import { createSession, type Feeds, floatData, floatOutput, floatTensor } from '../graph/session.ts';
import { type AdapterShape, LORA_SCALE, loraAName, loraBName, matrixNames, weightShapes } from '../models/llama.ts';
import { logitChunks, lossOutputNames, type LossSpec, OUTPUT } from '../models/losses.ts';
import { gradientName, type TrainingGraph, trainingGraph } from '../models/trainingGraph.ts';
import { quantizedFeeds } from '../models/quantizedWeights.ts';
import type { BaseModel, LoraWeights } from '../types.ts';
import type { Parameter } from './adamw.ts';

export interface PassResult {
  readonly loss: number;
  /** DPO: beta-scaled margin of each pair. */
  readonly margins?: Float32Array;
}

export interface Executor {
  readonly reason: string;
  /** The trained parameters: live arrays, read by every pass. */
  readonly parameters: readonly Parameter[];
  /** Parts in which a pass makes its logits: pick inputs must be padded to a multiple. */
  readonly chunks: number;
  /** Gradients of the last `gradientPass`, in the order of `parameters`. Overwritten by the next. */
  readonly gradients: readonly Float32Array[];
  gradientPass(feeds: Feeds): Promise<PassResult>;
  lossPass(feeds: Feeds): Promise<PassResult>;
  close(): Promise<void>;
}

export interface ExecutorOptions {
  readonly model: BaseModel;
  /** Live copies: the executor does not change them, the optimiser does. */
  readonly lora?: LoraWeights;
  readonly loss: LossSpec;
  /** Longest row, in tokens: the rotary tables must be as long as a row, also where its positions start again. */
  readonly rowLength: number;
  /** Upper bound of the tokens of one pass, padding included. */
  readonly passTokens: number;
  readonly threads: number;
}

/** Feeds of every weight of the model. @throws EngineError `engine.weights.missing` or `engine.weights.wrong_shape` */
export function weightFeeds(model: BaseModel): Feeds {
  const feeds: Feeds = {};
  for (const name of matrixNames(model.config)) {
    const matrix = model.quantized?.get(name);
    if (matrix !== undefined) Object.assign(feeds, quantizedFeeds(name, matrix));
  }
  for (const [name, dims] of weightShapes(model.config)) {
    if (model.quantized?.has(name) === true) continue;
    const tensor = model.weights.get(name);
    if (tensor === undefined) throw new EngineError('engine.weights.missing', `the model has no weight ${name}`);
    if (tensor.dims.join() !== dims.join()) {
      throw new EngineError('engine.weights.wrong_shape', `${name} is [${tensor.dims.join()}], not [${dims.join()}]`);
    }
    feeds[name] = floatTensor(tensor.data, tensor.dims);
  }
  return feeds;
}

export function adapterFeeds(lora: LoraWeights, scale = 1): Feeds {
  const feeds: Feeds = { [LORA_SCALE]: floatTensor(Float32Array.of((lora.config.alpha / lora.config.r) * scale), [1]) };
  for (const [module, { a, b }] of lora.tensors) {
    feeds[loraAName(module)] = floatTensor(a.data, a.dims);
    feeds[loraBName(module)] = floatTensor(b.data, b.dims);
  }
  return feeds;
}

export function adapterShape(lora: LoraWeights): AdapterShape {
  return { r: lora.config.r, modules: new Set(lora.tensors.keys()) };
}

class WholeGraphExecutor implements Executor {
  readonly reason = 'the only executor of this version: forward and backward of the whole model in one graph';
  readonly chunks: number;
  readonly parameters: readonly Parameter[];
  readonly gradients: readonly Float32Array[];
  readonly #session: InferenceSession;
  /** Compiled when first asked for: running the training graph for its loss alone would run the backward pass too. */
  #lossSession: Promise<InferenceSession> | undefined;
  readonly #options: ExecutorOptions;
  readonly #constant: Feeds;
  readonly #gradientFetches: Record<string, OrtTensor>;
  readonly #passOutputs: readonly string[];

  constructor(session: InferenceSession, options: ExecutorOptions, names: readonly string[]) {
    const { model, lora, loss } = options;
    this.#session = session;
    this.#options = options;
    this.chunks = chunksOf(options);
    this.#constant = { ...weightFeeds(model), ...(lora === undefined ? {} : adapterFeeds(lora)) };
    this.parameters = names.map((name) => {
      const tensor = this.#constant[name]!;
      return { name, dims: tensor.dims, data: floatData(tensor) };
    });
    this.gradients = this.parameters.map((p) => new Float32Array(p.data.length));
    this.#gradientFetches = Object.fromEntries(
      this.parameters.map((p, i) => [gradientName(p.name), floatTensor(this.gradients[i]!, p.dims)]),
    );
    this.#passOutputs = lossOutputNames(loss);
  }

  async gradientPass(feeds: Feeds): Promise<PassResult> {
    // Gradients go straight into their own arrays, which no input shares: an output written over an input that is still
    // to be read gives wrong numbers without an error.
    const fetches: Record<string, OrtTensor | null> = { ...this.#gradientFetches };
    for (const name of this.#passOutputs) fetches[name] = null;
    return readPass(await this.#session.run({ ...this.#constant, ...feeds }, fetches));
  }

  async lossPass(feeds: Feeds): Promise<PassResult> {
    this.#lossSession ??= createSession(graphOf(this.#options, true).graph, { threads: this.#options.threads });
    const session = await this.#lossSession;
    return readPass(await session.run({ ...this.#constant, ...feeds }));
  }

  async close(): Promise<void> {
    await this.#session.release();
    await (await this.#lossSession)?.release();
  }
}

function readPass(outputs: Readonly<Record<string, OrtTensor>>): PassResult {
  const loss = floatOutput(outputs, OUTPUT.loss)[0]!;
  return outputs[OUTPUT.margins] === undefined ? { loss } : { loss, margins: floatOutput(outputs, OUTPUT.margins) };
}

function chunksOf({ model, lora, passTokens }: ExecutorOptions): number {
  return logitChunks(model.config, passTokens, lora === undefined);
}

function graphOf(options: ExecutorOptions, forwardOnly: boolean): TrainingGraph {
  const { model, lora, loss, rowLength } = options;
  return trainingGraph({
    config: model.config,
    positions: rowLength,
    ...(model.quantized && { quantized: model.quantized }),
    loss,
    forwardOnly,
    chunks: chunksOf(options),
    ...(lora === undefined ? {} : { adapter: adapterShape(lora) }),
  });
}

/** Chooses and builds the executor of a run. @throws EngineError `engine.weights.*` when the weights do not fit. */
export async function createExecutor(options: ExecutorOptions): Promise<Executor> {
  weightFeeds(options.model); // Names a weight that does not fit before anything is compiled.
  const { graph, parameters } = graphOf(options, false);
  return new WholeGraphExecutor(await createSession(graph, { threads: options.threads }), options, parameters);
}
