/** Log-probabilities of given tokens, batched: the DPO reference, perplexity and preference accuracy. */
import type { InferenceSession } from 'onnxruntime-node';
import { EngineError } from '../errors.ts';
import { createSession, type Feeds, floatOutput } from '../graph/session.ts';
import { logitChunks, OUTPUT } from '../models/losses.ts';
import { scoringGraph } from '../models/trainingGraph.ts';
import type { BaseModel, LoraWeights, ScoreOptions, Scorer, ScoreRequest, ScorerOptions } from '../types.ts';
import { assemble, type Row, rowLength } from './batch.ts';
import { adapterFeeds, adapterShape, weightFeeds } from './executor.ts';

const DEFAULT_BATCH_TOKENS = 4096;

export interface RowScorer extends Scorer {
  /** Log-probabilities of every row's picks, in the order of the rows and of their picks. */
  scoreRows(rows: readonly Row[], lora?: LoraWeights, options?: ScoreOptions): Promise<Float32Array[]>;
}

function requestRow(request: ScoreRequest, maxPositions: number): Row {
  const { ids, from = 1 } = request;
  if (ids.length > maxPositions) {
    throw new EngineError(
      'engine.score.too_long',
      `a text of ${ids.length} tokens exceeds the model's ${maxPositions} positions`,
    );
  }
  if (!Number.isInteger(from) || from < 1) {
    throw new EngineError('engine.score.bad_request', `from must be an integer of at least 1, found ${from}`);
  }
  const picks = [];
  for (let t = from; t < ids.length; t++) picks.push({ column: t - 1, label: ids[t]!, weight: 1, slot: 0 });
  return { segments: [{ ids }], picks };
}

/** Sorts rows by length and cuts them into batches of at most `batchTokens` padded tokens; longer rows go alone. */
export function batchRows(rows: readonly Row[], batchTokens: number): number[][] {
  const order = rows.flatMap((row, i) => (row.picks.length > 0 ? [i] : []));
  order.sort((a, b) => rowLength(rows[a]!) - rowLength(rows[b]!) || a - b);
  const batches: number[][] = [];
  let current: number[] = [];
  for (const index of order) {
    if (current.length > 0 && (current.length + 1) * rowLength(rows[index]!) > batchTokens) {
      batches.push(current);
      current = [];
    }
    current.push(index);
  }
  if (current.length > 0) batches.push(current);
  return batches;
}

interface CompiledScorer {
  readonly shape: string;
  readonly positions: number;
  readonly session: InferenceSession;
}

class OnnxScorer implements RowScorer {
  readonly #model: BaseModel;
  readonly #threads: number;
  readonly #batchTokens: number;
  readonly #chunks: number;
  readonly #weights: Feeds;
  /** One session without an adapter and one for the last adapter shape that was asked for. */
  readonly #sessions = new Map<'base' | 'adapter', CompiledScorer>();

  constructor(options: ScorerOptions) {
    this.#model = options.model;
    this.#threads = options.threads ?? 1;
    this.#batchTokens = options.batchTokens ?? DEFAULT_BATCH_TOKENS;
    this.#chunks = logitChunks(options.model.config, this.#batchTokens, false);
    this.#weights = weightFeeds(options.model);
  }

  async logProbs(
    requests: readonly ScoreRequest[],
    lora?: LoraWeights,
    options: ScoreOptions = {},
  ): Promise<Float32Array[]> {
    return this.scoreRows(
      requests.map((r) => requestRow(r, this.#model.config.maxPositions)),
      lora,
      options,
    );
  }

  async scoreRows(rows: readonly Row[], lora?: LoraWeights, options: ScoreOptions = {}): Promise<Float32Array[]> {
    const results = rows.map((row) => new Float32Array(row.picks.length));
    const session = await this.#session(
      lora,
      rows.reduce((n, row) => Math.max(n, rowLength(row)), 1),
    );
    const constant = lora === undefined ? this.#weights : { ...this.#weights, ...adapterFeeds(lora, options.scale) };
    for (const batch of batchRows(rows, this.#batchTokens)) {
      options.signal?.throwIfAborted();
      const { feeds } = assemble(
        batch.map((i) => rows[i]!),
        this.#chunks,
      );
      const outputs = await session.run({ ...constant, ...feeds });
      const values = floatOutput(outputs, OUTPUT.logProbs);
      let offset = 0;
      for (const i of batch) {
        const result = results[i]!;
        result.set(values.subarray(offset, offset + result.length));
        offset += result.length;
      }
      await new Promise(setImmediate); // A run blocks the thread; let signals and timers through between two.
    }
    return results;
  }

  async close(): Promise<void> {
    for (const { session } of this.#sessions.values()) await session.release();
    this.#sessions.clear();
  }

  /** The session for an adapter shape, with rotary tables for rows of at least `rowTokens`. */
  async #session(lora: LoraWeights | undefined, rowTokens: number): Promise<InferenceSession> {
    const kind = lora === undefined ? 'base' : 'adapter';
    const shape = lora === undefined ? '' : [lora.config.r, ...lora.tensors.keys()].join();
    const known = this.#sessions.get(kind);
    if (known?.shape === shape && known.positions >= rowTokens) return known.session;
    await known?.session.release();
    this.#sessions.delete(kind);
    const positions = 2 ** Math.ceil(Math.log2(rowTokens)); // Doubling: few sessions while lengths grow.
    const graph = scoringGraph({
      config: this.#model.config,
      ...(this.#model.quantized && { quantized: this.#model.quantized }),
      positions,
      chunks: this.#chunks,
      ...(lora === undefined ? {} : { adapter: adapterShape(lora) }),
    });
    const session = await createSession(graph, { threads: this.#threads });
    this.#sessions.set(kind, { shape, positions, session });
    return session;
  }
}

/** A scorer for one base model and any adapters of it. Close it to free its sessions. */
export async function createScorer(options: ScorerOptions): Promise<RowScorer> {
  return new OnnxScorer(options);
}
