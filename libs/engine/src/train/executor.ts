/**
 * The seam between the training loop and how a pass is computed: the whole model as one graph (`wholeGraph.ts`), or layer
 * by layer in a fraction of the memory (`layerwise.ts`). `createExecutor.ts` chooses.
 */
import { EngineError } from '../errors.ts';
import { type Feeds, floatOutput, floatTensor } from '../graph/session.ts';
import type { OrtTensor } from '../graph/session.ts';
import { type AdapterShape, LORA_SCALE, loraAName, loraBName, matrixNames, weightShapes } from '../models/llama.ts';
import { logitChunks, type LossSpec, OUTPUT, PASS_OUTPUTS, type PassOutput, SCORE_WEIGHT } from '../models/losses.ts';
import { quantizedFeeds } from '../models/quantizedWeights.ts';
import type { BaseModel, TrainingEstimate, LoraWeights, Tensor } from '../types.ts';
import type { Parameter } from './adamw.ts';

/** Outputs of one pass: DPO gives beta-scaled `margins`, KTO the `scores` (log-probabilities) of its texts. */
export type PassResult = { readonly loss: number } & { readonly [name in PassOutput]?: Float32Array };

/** How passes will be computed, what that takes, and why so in words. */
export interface ExecutorChoice extends TrainingEstimate {
  readonly reason: string;
}

export interface Executor {
  readonly choice: ExecutorChoice;
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
  /** Reward losses: the live head, `[dimensions, hidden]`. */
  readonly rewardHead?: Tensor;
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

/** Feeds of everything a run holds: weights, adapter, reward head. */
export function parameterFeeds({ model, lora, rewardHead }: ExecutorOptions): Feeds {
  return {
    ...weightFeeds(model),
    ...(lora && adapterFeeds(lora)),
    ...(rewardHead && { [SCORE_WEIGHT]: floatTensor(rewardHead.data, rewardHead.dims) }),
  };
}

/** In how many parts the passes of these options make their logits. */
export function passChunks({ model, lora, passTokens }: ExecutorOptions): number {
  return logitChunks(model.config, passTokens, lora === undefined);
}

export function readPass(outputs: Readonly<Record<string, OrtTensor>>): PassResult {
  const given = PASS_OUTPUTS.filter((name) => outputs[OUTPUT[name]] !== undefined);
  const rest = Object.fromEntries(given.map((name) => [name, floatOutput(outputs, OUTPUT[name])]));
  return { loss: floatOutput(outputs, OUTPUT.loss)[0]!, ...rest };
}
