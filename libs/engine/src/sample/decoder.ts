import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { createSession, floatOutput, floatTensor, int64Tensor } from '../graph/session.ts';
import { LORA_SCALE, weightShapes } from '../models/llama.ts';
import type { BaseModel, LoraWeights, ModelConfig } from '../types.ts';
import { type AdapterStack, stackAdapters } from './adapterStack.ts';
import {
  buildDecoderGraph,
  DECODER_INPUT,
  LOG_TOTALS,
  LOGITS,
  newKeyName,
  newValueName,
  pastKeyName,
  pastValueName,
} from './decoderGraph.ts';
import type { DecoderForm } from './decoderValues.ts';
import type { KvCache } from './kvCache.ts';

/** Added to the score of a place that must not be attended to: exp() of it is exactly 0. */
const MASKED = -1e30;
/**
 * Rows of one run. Up to this many, a matrix product sums in one order whatever their number; beyond, the runtime cuts its sums
 * elsewhere, so larger batches go in several runs.
 */
const GROUP_ROWS = 16;
/** Stacks of adapters kept ready; the sets in use change only when a request starts or ends. */
const MAX_KEPT_STACKS = 4;

export interface DecoderOptions {
  readonly model: BaseModel;
  readonly threads: number;
  /** No position may reach it. */
  readonly positions: number;
  /**
   * A product of one row is computed in another order than one of several rows. With this set, a lone row is decoded
   * beside an empty one (matrices are read once for both), so that results are the same bits whatever else is in the batch.
   */
  readonly batchInvariant: boolean;
}

/** What the next tokens of some rows are drawn from. */
export interface NextTokens {
  /** `[rows, vocab]` */
  readonly logits: Float32Array;
  /** log sum exp of each row. */
  readonly totals: Float32Array;
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
  readonly #sessions = new Map<string, Promise<InferenceSession>>();
  /** Runs without an adapter go through the session with adapters too. */
  #keepsAdapted = false;

  constructor(options: DecoderOptions) {
    this.#options = options;
    this.#config = options.model.config;
    for (const [name, dims] of weightShapes(this.#config)) {
      if (options.model.quantized?.has(name) === true) continue;
      const tensor = options.model.weights.get(name);
      if (tensor === undefined) throw new Error(`the model has no weight ${name}`);
      this.#weights[name] = floatTensor(tensor.data, dims);
    }
  }

  /** Rows that must be reserved in the cache for `count` rows in use. */
  rowsFor(count: number): number {
    return this.#options.batchInvariant && count % GROUP_ROWS === 1 ? count + 1 : count;
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
  ): Promise<NextTokens> {
    const seq = tokens.length;
    const start = cache.length(row);
    const past = start === 0 ? 0 : cache.positions;
    const empty = { key: new Float32Array(0), value: new Float32Array(0) };
    const { fresh, ...next } = await this.#run({
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
    return next;
  }

  /**
   * One token more for every row in use: `tokens[row]` is appended to the row's cache; the result holds the logits after
   * it, `[count, vocab]`, row by row.
   */
  async decode(
    cache: KvCache,
    tokens: readonly number[],
    adapters: readonly (LoraWeights | undefined)[],
  ): Promise<NextTokens> {
    const { count } = cache;
    if (count <= GROUP_ROWS) return this.#decodeGroup(cache, 0, count, tokens, adapters);
    const { vocabSize } = this.#config;
    const logits = new Float32Array(count * vocabSize);
    const totals = new Float32Array(count);
    for (let first = 0; first < count; first += GROUP_ROWS) {
      const group = await this.#decodeGroup(cache, first, Math.min(GROUP_ROWS, count - first), tokens, adapters);
      const rows = Math.min(GROUP_ROWS, count - first);
      logits.set(group.logits.subarray(0, rows * vocabSize), first * vocabSize);
      totals.set(group.totals.subarray(0, rows), first);
    }
    return { logits, totals };
  }

  /** `decode` for `count` rows from `first`. */
  async #decodeGroup(
    cache: KvCache,
    first: number,
    count: number,
    tokens: readonly number[],
    adapters: readonly (LoraWeights | undefined)[],
  ): Promise<NextTokens> {
    const past = cache.positions;
    const rows = this.rowsFor(count);
    const pastMask = new Float32Array(rows * past).fill(MASKED);
    for (let row = 0; row < count; row++) pastMask.fill(0, row * past, row * past + cache.length(first + row));
    const perRow = (value: (row: number) => number): BigInt64Array => {
      const out = new BigInt64Array(rows);
      for (let row = 0; row < count; row++) out[row] = BigInt(value(first + row));
      return out;
    };
    const { fresh, ...next } = await this.#run({
      ids: perRow((row) => tokens[row]!),
      positions: perRow((row) => cache.length(row)),
      rows,
      seq: 1,
      past,
      pastMask,
      picks: BigInt64Array.from({ length: rows }, (_, row) => BigInt(row)),
      cacheView: (layer) => cache.view(layer, first, rows),
      adapters: adapters.slice(first, first + count),
    });
    cache.append(first, count, 1, fresh);
    return next;
  }

  async close(): Promise<void> {
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    for (const session of sessions) await (await session).release();
  }

  async #run(run: Run): Promise<NextTokens & { fresh: { key: Float32Array; value: Float32Array }[] }> {
    const { numLayers, numKvHeads, headDim } = this.#config;
    const used = [...new Set(run.adapters.filter((a) => a !== undefined))];
    const adapted = used.length > 0 || this.#keepsAdapted;
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
      ...(adapted && this.#adapterFeeds(run, used)),
    };
    for (let layer = 0; layer < numLayers; layer++) {
      const { key, value } = run.cacheView(layer);
      feeds[pastKeyName(layer)] = floatTensor(key, cacheDims);
      feeds[pastValueName(layer)] = floatTensor(value, cacheDims);
    }
    const session = await this.#session(run.seq > 1 ? 'prompt' : 'step', adapted);
    const outputs = await session.run(feeds);
    const fresh = Array.from({ length: numLayers }, (_, layer) => ({
      key: floatOutput(outputs, newKeyName(layer)),
      value: floatOutput(outputs, newValueName(layer)),
    }));
    return { logits: floatOutput(outputs, LOGITS), totals: floatOutput(outputs, LOG_TOTALS), fresh };
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

  /**
   * Compiled when first needed. Weights are fed, so sessions hold none, except those in 4 bits: of such a model one session
   * lives at a time, for prompts and steps, first without adapters and from their first use on with them.
   */
  async #session(wanted: DecoderForm, adapters: boolean): Promise<InferenceSession> {
    const { model, positions, threads } = this.#options;
    const holdsWeights = model.quantized !== undefined;
    const form = holdsWeights ? 'step' : wanted;
    const key = `${form} ${adapters}`;
    const known = this.#sessions.get(key);
    if (known !== undefined) return known;
    if (holdsWeights) {
      await this.close();
      this.#keepsAdapted = adapters;
    }
    const session = createSession(buildDecoderGraph(model, { positions, adapters, form }), { threads });
    this.#sessions.set(key, session);
    return session;
  }
}
