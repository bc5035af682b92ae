/** Rewards of texts by a trained adapter and head. */
import type { InferenceSession } from 'onnxruntime-node';
import { checkLora } from '../adapters/lora.ts';
import { checkRewardHead } from '../adapters/rewardHead.ts';
import { EngineError } from '../errors.ts';
import { createSession, type Feeds, floatOutput, floatTensor } from '../graph/session.ts';
import { INPUT, OUTPUT, SCORE_WEIGHT } from '../models/losses.ts';
import { rewardGraph } from '../models/trainingGraph.ts';
import type { BaseModel, LoraWeights, RewardHead, TokenIds } from '../types.ts';
import { assemble } from './batch.ts';
import { adapterFeeds, adapterShape, weightFeeds } from './executor.ts';
import { rewardRow } from './rewardTask.ts';
import { batchRows } from './scorer.ts';

const DEFAULT_BATCH_TOKENS = 4096;

export interface RewardScorerOptions {
  readonly model: BaseModel;
  readonly lora: LoraWeights;
  readonly head: RewardHead;
  readonly threads?: number;
  /** Upper bound of padded tokens in one pass (default 4096). */
  readonly batchTokens?: number;
}

export interface RewardScorer {
  /** The head's, in the order of a text's rewards. */
  readonly dimensions: readonly string[];
  /**
   * Rewards `[dimensions]` of each text, in order: the head applied to the state of its last token.
   * @throws EngineError `engine.score.bad_request` for an empty text or a token outside the vocabulary, `engine.score.too_long`
   */
  score(texts: readonly TokenIds[], signal?: AbortSignal): Promise<Float32Array[]>;
  close(): Promise<void>;
}

class OnnxRewardScorer implements RewardScorer {
  readonly dimensions: readonly string[];
  readonly #options: RewardScorerOptions;
  readonly #constant: Feeds;
  #compiled: { readonly positions: number; readonly session: InferenceSession } | undefined;

  constructor(options: RewardScorerOptions) {
    const { model, lora, head } = options;
    this.dimensions = head.dimensions;
    this.#options = options;
    this.#constant = {
      ...weightFeeds(model),
      ...adapterFeeds(lora),
      [SCORE_WEIGHT]: floatTensor(head.weight.data, head.weight.dims),
    };
  }

  async score(texts: readonly TokenIds[], signal?: AbortSignal): Promise<Float32Array[]> {
    texts.forEach((ids, i) => this.#check(ids, i));
    const rows = texts.map(rewardRow);
    const longest = texts.reduce((n, ids) => Math.max(n, ids.length), 1);
    const session = await this.#session(longest);
    const n = this.dimensions.length;
    const rewards = texts.map(() => new Float32Array(n));
    for (const batch of batchRows(rows, this.#options.batchTokens ?? DEFAULT_BATCH_TOKENS)) {
      signal?.throwIfAborted();
      const { [INPUT.labels]: _labels, ...feeds } = assemble(batch.map((i) => rows[i]!)).feeds;
      const values = floatOutput(await session.run({ ...this.#constant, ...feeds }), OUTPUT.rewards);
      batch.forEach((i, row) => rewards[i]!.set(values.subarray(row * n, (row + 1) * n)));
      await new Promise(setImmediate); // A run blocks the thread; let signals and timers through between two.
    }
    return rewards;
  }

  async close(): Promise<void> {
    await this.#compiled?.session.release();
    this.#compiled = undefined;
  }

  #check(ids: TokenIds, index: number): void {
    const { maxPositions, vocabSize } = this.#options.model.config;
    if (ids.length > maxPositions) {
      throw new EngineError(
        'engine.score.too_long',
        `text ${index} of ${ids.length} tokens exceeds the model's ${maxPositions} positions`,
      );
    }
    const wrong = Array.from(ids).find((id) => !(id >= 0 && id < vocabSize));
    if (ids.length === 0 || wrong !== undefined) {
      const why = ids.length === 0 ? 'is empty' : `has token ${wrong}, outside the vocabulary of ${vocabSize}`;
      throw new EngineError('engine.score.bad_request', `text ${index} ${why}`);
    }
  }

  /** A session with rotary tables for at least `tokens` positions. */
  async #session(tokens: number): Promise<InferenceSession> {
    if (this.#compiled !== undefined && this.#compiled.positions >= tokens) return this.#compiled.session;
    await this.close();
    const { model, lora, threads = 1 } = this.#options;
    const positions = 2 ** Math.ceil(Math.log2(tokens)); // Doubling: few sessions while lengths grow.
    const spec = {
      config: model.config,
      positions,
      adapter: adapterShape(lora),
      ...(model.quantized && { quantized: model.quantized }),
    };
    const graph = rewardGraph(spec, this.dimensions.length);
    const session = await createSession(graph, { threads });
    this.#compiled = { positions, session };
    return session;
  }
}

/**
 * A scorer for one reward model. Close it to free its session.
 * @throws EngineError as `checkLora` and `checkRewardHead`
 */
export async function createRewardScorer(options: RewardScorerOptions): Promise<RewardScorer> {
  checkLora(options.model.config, options.lora);
  checkRewardHead(options.model.config, options.head);
  return new OnnxRewardScorer(options);
}
