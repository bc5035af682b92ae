/**
 * The seam between the training loop and how a pass is computed. The whole-graph executor runs forward and backward as
 * one session; another can go layer by layer and meet the same interface.
 */
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { EngineError } from '../errors.ts';
import { createSession, type Feeds, floatOutput, floatTensor } from '../graph/session.ts';
import { type AdapterShape, LORA_SCALE, loraAName, loraBName, weightShapes } from '../models/llama.ts';
import { gradientName, type LossSpec, OUTPUT, trainingGraph } from '../models/trainingGraph.ts';
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
  readonly threads: number;
}

/** Feeds of every weight of the model. @throws EngineError `engine.weights.missing` or `engine.weights.wrong_shape` */
export function weightFeeds(model: BaseModel): Feeds {
  const feeds: Feeds = {};
  for (const [name, dims] of weightShapes(model.config)) {
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
  readonly reason = 'the only executor of this version; the whole model is one graph';
  readonly parameters: readonly Parameter[];
  readonly gradients: readonly Float32Array[];
  readonly #session: InferenceSession;
  readonly #constant: Feeds;
  readonly #gradientFetches: Record<string, OrtTensor>;
  readonly #passOutputs: readonly string[];

  constructor(session: InferenceSession, constant: Feeds, names: readonly string[], dpo: boolean) {
    this.#session = session;
    this.#constant = constant;
    this.parameters = names.map((name) => {
      const tensor = constant[name] as OrtTensor;
      return { name, dims: tensor.dims, data: tensor.data as Float32Array };
    });
    this.gradients = this.parameters.map((p) => new Float32Array(p.data.length));
    this.#gradientFetches = Object.fromEntries(
      this.parameters.map((p, i) => [gradientName(p.name), floatTensor(this.gradients[i] as Float32Array, p.dims)]),
    );
    this.#passOutputs = dpo ? [OUTPUT.loss, OUTPUT.margins] : [OUTPUT.loss];
  }

  async gradientPass(feeds: Feeds): Promise<PassResult> {
    // Gradients go straight into their own arrays, which no input shares: an output written over an input that is still
    // to be read gives wrong numbers without an error.
    const fetches: Record<string, OrtTensor | null> = { ...this.#gradientFetches };
    for (const name of this.#passOutputs) fetches[name] = null;
    return readPass(await this.#session.run({ ...this.#constant, ...feeds }, fetches));
  }

  async lossPass(feeds: Feeds): Promise<PassResult> {
    return readPass(await this.#session.run({ ...this.#constant, ...feeds }, [...this.#passOutputs]));
  }

  async close(): Promise<void> {
    await this.#session.release();
  }
}

function readPass(outputs: Readonly<Record<string, OrtTensor>>): PassResult {
  const loss = floatOutput(outputs, OUTPUT.loss)[0] as number;
  return outputs[OUTPUT.margins] === undefined ? { loss } : { loss, margins: floatOutput(outputs, OUTPUT.margins) };
}

/** Builds the executor for a run. */
export async function createExecutor(options: ExecutorOptions): Promise<Executor> {
  const { model, lora, loss, threads } = options;
  const { graph, parameters } = trainingGraph({
    config: model.config,
    positions: options.rowLength,
    loss,
    ...(lora === undefined ? {} : { adapter: adapterShape(lora) }),
  });
  const session = await createSession(graph, { threads });
  const constant = { ...weightFeeds(model), ...(lora === undefined ? {} : adapterFeeds(lora)) };
  return new WholeGraphExecutor(session, constant, parameters, loss.kind === 'dpo');
}
