import { randomInt } from 'node:crypto';
import { checkLora } from '../adapters/lora.ts';
import { EngineError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { BaseModel, LoraWeights } from '../types.ts';
import { Constraints } from './constraint/constraint.ts';
import { type QuantizeModelOptions, quantizeModel } from '../weights/quantize.ts';
import { Decoder, type NextTokens } from './decoder.ts';
import { KvCache } from './kvCache.ts';
import { checkRequest, type Generation, type GenerateRequest } from './request.ts';
import { Sequence } from './sequence.ts';

const DEFAULT_MAX_BATCH = 32;
const DEFAULT_MAX_CONTEXT = 2048;
/** Requests that may wait; more are refused, so that a flood meets an error instead of memory running out. */
const MAX_QUEUED = 4096;
/** Adapters held at once. */
const MAX_ADAPTERS = 64;
/** Prompt tokens in one run: bounds the memory of attention over a long prompt. */
const PREFILL_CHUNK = 512;
/** Prompt tokens read between two steps of the running sequences, so that newcomers do not stall them. */
const PREFILL_TOKENS_PER_STEP = 2048;
const MAX_SAMPLES = 128;
/** Seeds drawn when none is given. */
const MAX_SEED = 2 ** 47;

export interface SamplerOptions {
  /** A model in 4 bits (`quantizeModel`) is decoded with 8-bit activations: smaller and faster, not for GRPO's rollouts. */
  readonly model: BaseModel;
  /** Decode a rounded copy of the model: `quantizeModel` with these options. Its float matrices are the caller's to let go. */
  readonly quantize?: QuantizeModelOptions;
  /** Needed for prompts as text, `text` in results, stop strings and response formats. */
  readonly tokenizer?: Tokenizer;
  /** Tokens that end every answer, besides those a request names. Default: the tokenizer's `eos_token`. */
  readonly eosTokenIds?: readonly number[];
  /** Intra-op threads of ONNX Runtime (default 1). */
  readonly threads?: number;
  /** Sequences decoded together (default 32). */
  readonly maxBatch?: number;
  /** Prompt and answer together, in tokens; at most the model's `maxPositions` (default the smaller of that and 2048). */
  readonly maxContext?: number;
  /**
   * A request gives the same bits whatever else is in the batch (default true). Turning it off spares a request that runs
   * alone the empty row beside it, at the price of that promise.
   */
  readonly batchInvariant?: boolean;
}

export interface Sampler {
  /**
   * Offers an adapter under a name. Names are immutable: a new version takes a new name.
   * @throws EngineError `engine.sample.adapter_exists`, `engine.sample.too_many_adapters`, and those of `checkLora`
   */
  addAdapter(name: string, lora: LoraWeights): void;
  /** Stops offering an adapter; requests that began with it end with it. Gives false when there was none of that name. */
  removeAdapter(name: string): boolean;
  adapterNames(): string[];
  /**
   * Continues a prompt. Concurrent calls are decoded together.
   * @throws EngineError `engine.sample.bad_request` (field named), `engine.sample.unknown_adapter`,
   * `engine.sample.prompt_too_long`, `engine.sample.unsupported_schema`, `engine.sample.queue_full`, `engine.sample.closed`; the signal's reason when aborted
   */
  generate(request: GenerateRequest): Promise<Generation>;
  /** `count` samples of one prompt, which is read once. Sample i is what `generate` gives with seed + i. */
  generateMany(request: GenerateRequest, count: number): Promise<Generation[]>;
  /** Rejects what waits and runs, and frees the sessions. */
  close(): Promise<void>;
}

/**
 * Continuous batching over one model. A request waits in the queue; is admitted when a row is free: its prompt is read into
 * the row's cache and its first token drawn; takes part in every decoding step; and leaves when it has a stop token, a stop
 * string or its full length, when its signal aborts, or when the sampler closes. The loop runs while anything waits or
 * runs. `session.run` blocks the thread between steps, so a server keeps the sampler in a process of its own.
 */
class BatchingSampler implements Sampler {
  readonly #options: SamplerOptions;
  readonly #decoder: Decoder;
  readonly #cache: KvCache;
  readonly #adapters = new Map<string, LoraWeights>();
  readonly #maxBatch: number;
  readonly #maxContext: number;
  readonly #eos: readonly number[];
  readonly #constraints: Constraints | undefined;
  #queue: Sequence[] = [];
  /** By cache row. */
  readonly #active: Sequence[] = [];
  #loop: Promise<void> | undefined;
  #closed = false;

  constructor(options: SamplerOptions) {
    const { config } = options.model;
    this.#options = options;
    this.#maxBatch = options.maxBatch ?? DEFAULT_MAX_BATCH;
    this.#maxContext = Math.min(options.maxContext ?? DEFAULT_MAX_CONTEXT, config.maxPositions);
    const eos = options.tokenizer?.eosTokenId;
    this.#eos = options.eosTokenIds ?? (eos === undefined ? [] : [eos]);
    this.#constraints = options.tokenizer && new Constraints(options.tokenizer, config.vocabSize);
    this.#cache = new KvCache(config);
    this.#decoder = new Decoder({
      model: options.quantize === undefined ? options.model : quantizeModel(options.model, options.quantize),
      threads: options.threads ?? 1,
      positions: this.#maxContext,
      batchInvariant: options.batchInvariant ?? true,
    });
  }

  addAdapter(name: string, lora: LoraWeights): void {
    if (this.#adapters.has(name)) {
      throw new EngineError('engine.sample.adapter_exists', `an adapter named ${name} is already loaded`);
    }
    if (this.#adapters.size >= MAX_ADAPTERS) {
      throw new EngineError(
        'engine.sample.too_many_adapters',
        `at most ${MAX_ADAPTERS} adapters can be loaded at once`,
      );
    }
    checkLora(this.#options.model.config, lora);
    // A copy of the object, so that one adapter offered under two names has two identities.
    this.#adapters.set(name, { ...lora });
  }

  removeAdapter(name: string): boolean {
    const adapter = this.#adapters.get(name);
    if (adapter === undefined) return false;
    this.#decoder.forget(adapter);
    return this.#adapters.delete(name);
  }

  adapterNames(): string[] {
    return [...this.#adapters.keys()];
  }

  async generate(request: GenerateRequest): Promise<Generation> {
    return await this.#enqueue(request, request.seed ?? randomInt(MAX_SEED));
  }

  async generateMany(request: GenerateRequest, count: number): Promise<Generation[]> {
    if (!Number.isInteger(count) || count < 1 || count > MAX_SAMPLES) {
      throw new EngineError('engine.sample.bad_request', `count must be an integer from 1 to ${MAX_SAMPLES}`);
    }
    const seed = request.seed ?? randomInt(MAX_SEED);
    return await Promise.all(Array.from({ length: count }, (_, i) => this.#enqueue(request, seed + i)));
  }

  async #enqueue(request: GenerateRequest, seed: number): Promise<Generation> {
    if (this.#closed) throw new EngineError('engine.sample.closed', 'the sampler is closed');
    request.signal?.throwIfAborted();
    if (this.#queue.length >= MAX_QUEUED) {
      throw new EngineError('engine.sample.queue_full', `${MAX_QUEUED} requests are waiting already`);
    }
    const adapter = request.adapter === undefined ? undefined : this.#adapters.get(request.adapter);
    if (request.adapter !== undefined && adapter === undefined) {
      throw new EngineError('engine.sample.unknown_adapter', `no adapter named ${request.adapter} is loaded`);
    }
    const checked = checkRequest(request, {
      vocabSize: this.#options.model.config.vocabSize,
      maxContext: this.#maxContext,
      eosTokenIds: this.#eos,
      ...(this.#options.tokenizer && { tokenizer: this.#options.tokenizer }),
      ...(this.#constraints && { constraints: this.#constraints }),
    });
    const sequence = new Sequence(request, checked, adapter, seed);
    this.#queue.push(sequence);
    this.#loop ??= this.#work();
    return await sequence.result;
  }

  async #work(): Promise<void> {
    try {
      // One turn of the event loop, so that calls made together are admitted together.
      await new Promise((resolve) => setImmediate(resolve));
      while (this.#queue.length + this.#active.length > 0) {
        this.#dropSettled();
        await this.#admit();
        if (this.#active.length > 0) await this.#step();
      }
    } catch (error) {
      // A failed run leaves the caches half written: nobody can go on.
      for (const sequence of [...this.#queue, ...this.#active]) sequence.fail(error);
      this.#queue = [];
      this.#dropSettled();
    } finally {
      // In the same turn as the last look at the queue: a request made after it starts a new loop.
      this.#loop = undefined;
    }
  }

  /** Takes out what was aborted, rejected by a throwing callback or failed. */
  #dropSettled(): void {
    this.#queue = this.#queue.filter((sequence) => !sequence.settled);
    for (let row = this.#active.length - 1; row >= 0; row--) if (this.#active[row]?.settled) this.#release(row);
  }

  #release(row: number): void {
    const moved = this.#cache.release(row);
    const last = this.#active.pop();
    if (moved !== undefined && last !== undefined) this.#active[row] = last;
  }

  #reserve(rows: number, newcomer: number): void {
    let longest = newcomer;
    for (let row = 0; row < this.#cache.count; row++) longest = Math.max(longest, this.#cache.length(row) + 1);
    this.#cache.reserve(this.#decoder.rowsFor(rows), longest);
  }

  /** Reads prompts into free rows until the batch is full or the share of this turn is used up. */
  async #admit(): Promise<void> {
    let read = 0;
    while (this.#queue.length > 0 && this.#active.length < this.#maxBatch && read < PREFILL_TOKENS_PER_STEP) {
      const first = this.#queue[0]!;
      const free = this.#maxBatch - this.#active.length;
      let same = 1;
      while (same < Math.min(free, this.#queue.length) && first.sharesPrompt(this.#queue[same]!)) same++;
      const group = this.#queue.splice(0, same);
      // One row more than may be needed: the prompt is read into it, and it goes to the first sequence that goes on.
      this.#reserve(this.#active.length + same, first.prompt.length + 1);
      const row = this.#cache.open();
      try {
        this.#start(group, row, await this.#prefill(row, first));
      } catch (error) {
        for (const sequence of group) sequence.fail(error);
        throw error;
      } finally {
        if (this.#cache.count > this.#active.length) this.#cache.release(row);
      }
      read += first.prompt.length;
    }
  }

  async #prefill(row: number, sequence: Sequence): Promise<NextTokens> {
    let next: NextTokens = { logits: new Float32Array(0), totals: new Float32Array(0) };
    for (let at = 0; at < sequence.prompt.length; at += PREFILL_CHUNK) {
      const chunk = sequence.prompt.subarray(at, at + PREFILL_CHUNK);
      next = await this.#decoder.prefill(this.#cache, row, chunk, sequence.adapter);
    }
    return next;
  }

  /** Draws the first token of each sequence of a group; those that go on get a row each. */
  #start(group: readonly Sequence[], row: number, { logits, totals }: NextTokens): void {
    const going = group.filter((sequence) => {
      sequence.accept(logits, totals[0]!);
      return !sequence.settled;
    });
    going.forEach((sequence, i) => {
      if (i > 0) this.#cache.fork(row);
      this.#active.push(sequence);
    });
  }

  async #step(): Promise<void> {
    this.#reserve(this.#active.length, 1);
    const batch = [...this.#active];
    const { logits, totals } = await this.#decoder.decode(
      this.#cache,
      batch.map((sequence) => sequence.lastToken),
      batch.map((sequence) => sequence.adapter),
    );
    const { vocabSize } = this.#options.model.config;
    batch.forEach((sequence, row) => {
      const own = logits.subarray(row * vocabSize, (row + 1) * vocabSize);
      if (!sequence.settled) sequence.accept(own, totals[row]!);
    });
    this.#dropSettled();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const closed = new EngineError('engine.sample.closed', 'the sampler was closed');
    for (const sequence of [...this.#queue, ...this.#active]) sequence.fail(closed);
    await this.#loop;
    await this.#decoder.close();
  }
}

/**
 * A sampler with continuous batching, key-value caches and an adapter per request.
 * @throws EngineError `engine.sample.bad_request` for options out of range, `engine.quantize.*` as `quantizeModel`
 */
export function createSampler(options: SamplerOptions): Sampler {
  for (const field of ['threads', 'maxBatch', 'maxContext'] as const) {
    const value = options[field];
    if (value !== undefined && (!Number.isInteger(value) || value < 1)) {
      throw new EngineError('engine.sample.bad_request', `${field} must be a positive integer, found ${value}`);
    }
  }
  return new BatchingSampler(options);
}
