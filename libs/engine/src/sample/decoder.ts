import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { createSession, floatOutput, floatTensor, int64Tensor } from '../graph/session.ts';
import { LORA_SCALE, weightShapes } from '../models/llama.ts';
import type { BaseModel, LoraWeights, ModelConfig } from '../types.ts';
import { type AdapterStack, stackAdapters } from './adapterStack.ts';
import {
  buildDecoderGraph,
  DECODER_INPUT,
  LOGITS,
  newKeyName,
  newValueName,
  pastKeyName,
  pastValueName,
} from './decoderGraph.ts';
import type { KvCache } from './kvCache.ts';

/** Added to the score of a place that must not be attended to: exp() of it is exactly 0. */
const MASKED = -1e30;
/** Stacks of adapters kept ready; the sets in use change only when a request starts or ends. */
const MAX_KEPT_STACKS = 4;

export interface DecoderOptions {
  readonly model: BaseModel;
  readonly threads: number;
  /** No position may reach it. */
  readonly positions: number;
  /**
   * A product of one row is computed in another order than one of several rows. With this set, a lone row is decoded
   * beside an empty one, so that results are the same bits whatever else is in the batch.
   */
  readonly batchInvariant: boolean;
}

interface Run {
  readonly ids: BigInt64Array;
  readonly positions: BigInt64Array;
  readonly rows: number;
  readonly seq: number;
  readonly past: number;
  readonly pastMask: Float32Array;
  readonly picks: BigInt64Array;
  readonly cacheView: (layer: number) => { key: Float32Array; value: Float32Array };
  /** For each of the `rows * seq` tokens; absent entries are the base model. */
  readonly adapters: readonly (LoraWeights | undefined)[];
}

/** Runs the generation graph over rows of a {@link KvCache}. Weights are shared with the caller, never copied. */
export class Decoder {
  readonly #options: DecoderOptions;
  readonly #config: ModelConfig;
  readonly #weights: Record<string, OrtTensor> = {};
  readonly #stacks: { adapters: readonly LoraWeights[]; stack: AdapterStack }[] = [];
  #baseSession: Promise<InferenceSession> | undefined;
  #adapterSession: Promise<InferenceSession> | undefined;

  constructor(options: DecoderOptions) {
    this.#options = options;
    this.#config = options.model.config;
    for (const [name, dims] of weightShapes(this.#config)) {
      const tensor = options.model.weights.get(name);
      if (tensor === undefined) throw new Error(`the model has no weight ${name}`);
      this.#weights[name] = floatTensor(tensor.data, dims);
    }
  }

  /** Rows that must be reserved in the cache for `count` rows in use. */
  rowsFor(count: number): number {
    return this.#options.batchInvariant ? Math.max(2, count) : count;
  }

  /**
   * Feeds prompt tokens into one row, appends them to its cache, and gives the logits `[vocab]` after the last of them.
   * A prompt always runs alone, so its numbers depend on nothing else.
   */
  async prefill(
    cache: KvCache,
    row: number,
    tokens: Int32Array,
    adapter: LoraWeights | undefined,
  ): Promise<Float32Array> {
    const seq = tokens.length;
    const start = cache.length(row);
    const past = start === 0 ? 0 : cache.positions;
    const empty = { key: new Float32Array(0), value: new Float32Array(0) };
    const { logits, fresh } = await this.#run({
      ids: BigInt64Array.from(tokens, BigInt),
      positions: BigInt64Array.from(tokens, (_, t) => BigInt(start + t)),
      rows: 1,
      seq,
      past,
      pastMask: new Float32Array(past).fill(MASKED, start),
      picks: BigInt64Array.of(BigInt(seq - 1)),
      cacheView: (layer) => (past === 0 ? empty : cache.view(layer, row, 1)),
      adapters: Array.from({ length: seq }, () => adapter),
    });
    cache.append(row, 1, seq, fresh);
    return logits;
  }

  /**
   * One token more for every row in use: `tokens[row]` is appended to the row's cache; the result holds the logits after
   * it, `[count, vocab]`, row by row.
   */
  async decode(
    cache: KvCache,
    tokens: readonly number[],
    adapters: readonly (LoraWeights | undefined)[],
  ): Promise<Float32Array> {
    const { count, positions: past } = cache;
    const rows = this.rowsFor(count);
    const pastMask = new Float32Array(rows * past);
    for (let row = 0; row < rows; row++) pastMask.fill(MASKED, row * past + cache.length(row), (row + 1) * past);
    const perRow = (value: (row: number) => number): BigInt64Array => {
      const out = new BigInt64Array(rows);
      for (let row = 0; row < count; row++) out[row] = BigInt(value(row));
      return out;
    };
    const { logits, fresh } = await this.#run({
      ids: perRow((row) => tokens[row]!),
      positions: perRow((row) => cache.length(row)),
      rows,
      seq: 1,
      past,
      pastMask,
      picks: BigInt64Array.from({ length: rows }, (_, row) => BigInt(row)),
      cacheView: (layer) => cache.view(layer, 0, rows),
      adapters,
    });
    cache.append(0, count, 1, fresh);
    return logits;
  }

  async close(): Promise<void> {
    const sessions = [this.#baseSession, this.#adapterSession];
    this.#baseSession = undefined;
    this.#adapterSession = undefined;
    for (const session of sessions) await (await session)?.release();
  }

  async #run(run: Run): Promise<{ logits: Float32Array; fresh: { key: Float32Array; value: Float32Array }[] }> {
    const { numLayers, numKvHeads, headDim } = this.#config;
    const used = [...new Set(run.adapters.filter((a) => a !== undefined))];
    const cacheDims = [run.rows, numKvHeads, run.past, headDim];
    const causal = new Float32Array(run.seq * run.seq);
    for (let t = 0; t < run.seq; t++) causal.fill(MASKED, t * run.seq + t + 1, (t + 1) * run.seq);
    const feeds: Record<string, OrtTensor> = {
      ...this.#weights,
      [DECODER_INPUT.ids]: int64Tensor(run.ids, [run.rows, run.seq]),
      [DECODER_INPUT.positions]: int64Tensor(run.positions, [run.rows, run.seq]),
      [DECODER_INPUT.pastMask]: floatTensor(run.pastMask, [run.rows, 1, 1, run.past]),
      [DECODER_INPUT.newMask]: floatTensor(causal, [1, 1, run.seq, run.seq]),
      [DECODER_INPUT.picks]: int64Tensor(run.picks, [run.picks.length]),
      ...(used.length > 0 && this.#adapterFeeds(run, used)),
    };
    for (let layer = 0; layer < numLayers; layer++) {
      const { key, value } = run.cacheView(layer);
      feeds[pastKeyName(layer)] = floatTensor(key, cacheDims);
      feeds[pastValueName(layer)] = floatTensor(value, cacheDims);
    }
    const session = await this.#session(used.length > 0);
    const outputs = await session.run(feeds);
    const fresh = Array.from({ length: numLayers }, (_, layer) => ({
      key: floatOutput(outputs, newKeyName(layer)),
      value: floatOutput(outputs, newValueName(layer)),
    }));
    return { logits: floatOutput(outputs, LOGITS), fresh };
  }

  #adapterFeeds(run: Run, used: readonly LoraWeights[]): Record<string, OrtTensor> {
    const stack = this.#stack(used);
    const tokens = run.rows * run.seq;
    const scales = new Float32Array(tokens * stack.rank);
    run.adapters.forEach((adapter, token) => {
      if (adapter !== undefined) stack.select(scales, token, adapter);
    });
    return { ...stack.feeds, [LORA_SCALE]: floatTensor(scales, [tokens, stack.rank]) };
  }

  #stack(used: readonly LoraWeights[]): AdapterStack {
    const known = this.#stacks.find(
      ({ adapters }) => used.every((a) => adapters.includes(a)) && adapters.length === used.length,
    );
    if (known !== undefined) return known.stack;
    const stack = stackAdapters(this.#config, used);
    this.#stacks.unshift({ adapters: used, stack });
    this.#stacks.length = Math.min(this.#stacks.length, MAX_KEPT_STACKS);
    return stack;
  }

  /** Forgets stacks with an adapter that is no longer offered. */
  forget(adapter: LoraWeights): void {
    const kept = this.#stacks.filter(({ adapters }) => !adapters.includes(adapter));
    this.#stacks.splice(0, this.#stacks.length, ...kept);
  }

  #session(withAdapters: boolean): Promise<InferenceSession> {
    const create = (): Promise<InferenceSession> =>
      createSession(buildDecoderGraph(this.#config, this.#options.positions, withAdapters), {
        threads: this.#options.threads,
      });
    if (withAdapters) return (this.#adapterSession ??= create());
    return (this.#baseSession ??= create());
  }
}
