/** Forward and backward of the whole model in one session: the fastest way while its activations fit. */
import type { InferenceSession } from 'onnxruntime-node';
import { createSession, type Feeds, floatData, floatTensor, type OrtTensor } from '../graph/session.ts';
import { lossOutputNames } from '../models/losses.ts';
import { gradientName, type TrainingGraph, trainingGraph } from '../models/trainingGraph.ts';
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

class WholeGraphExecutor implements Executor {
  readonly choice: ExecutorChoice;
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

  constructor(session: InferenceSession, options: ExecutorOptions, choice: ExecutorChoice, names: readonly string[]) {
    this.choice = choice;
    const { loss } = options;
    this.#session = session;
    this.#options = options;
    this.chunks = passChunks(options);
    this.#constant = parameterFeeds(options);
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
    this.#lossSession ??= createSession(wholeGraphOf(this.#options, true).graph, { threads: this.#options.threads });
    const session = await this.#lossSession;
    return readPass(await session.run({ ...this.#constant, ...feeds }));
  }

  async close(): Promise<void> {
    await this.#session.release();
    await (await this.#lossSession)?.release();
  }
}

/** The graph of a pass. */
export function wholeGraphOf(options: ExecutorOptions, forwardOnly: boolean): TrainingGraph {
  const { model, lora, loss, rowLength } = options;
  return trainingGraph({
    config: model.config,
    positions: rowLength,
    ...(model.quantized && { quantized: model.quantized }),
    loss,
    forwardOnly,
    chunks: passChunks(options),
    ...(lora === undefined ? {} : { adapter: adapterShape(lora) }),
  });
}

/** Compiles the whole model's forward and backward pass. @throws EngineError `engine.weights.*` when weights do not fit. */
export async function createWholeGraphExecutor(options: ExecutorOptions, choice: ExecutorChoice): Promise<Executor> {
  const { graph, parameters } = wholeGraphOf(options, false);
  return new WholeGraphExecutor(await createSession(graph, { threads: options.threads }), options, choice, parameters);
}
