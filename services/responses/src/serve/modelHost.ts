import { EngineError } from '@tuneloop/engine/errors';
import { type ChatFormat, createChatFormat } from '@tuneloop/engine/chat/chatFormat';
import type { Generation, GenerateRequest } from '@tuneloop/engine/sample/request';
import { createSampler, type Sampler } from '@tuneloop/engine/sample/sampler';
import { loadTokenizerFolder, type Tokenizer } from '@tuneloop/engine/tokenizer/tokenizer';
import { loadModelFolder } from '@tuneloop/engine/weights/loadModel';
import type { BlobStore } from '@tuneloop/runtime/blobs/blobStore';
import { AppError, badRequest } from '@tuneloop/runtime/errors';
import { readAdapter } from './adapterArtefact.ts';
import { AdapterCache } from './adapterCache.ts';
import type { ServeConfig } from './config.ts';

/** One base model in memory: its weights, its sampler with continuous batching, and the adapters loaded for it. */
export class ModelHost {
  readonly name: string;
  readonly createdAt: Date;
  readonly tokenizer: Tokenizer;
  readonly chat: ChatFormat;
  readonly adapters: AdapterCache;
  readonly maxContext: number;
  readonly #sampler: Sampler;
  readonly #maxSequences: number;
  #sequences = 0;

  private constructor(parts: {
    name: string;
    tokenizer: Tokenizer;
    chat: ChatFormat;
    sampler: Sampler;
    adapters: AdapterCache;
    maxContext: number;
    maxSequences: number;
  }) {
    this.name = parts.name;
    this.createdAt = new Date();
    this.tokenizer = parts.tokenizer;
    this.chat = parts.chat;
    this.adapters = parts.adapters;
    this.maxContext = parts.maxContext;
    this.#sampler = parts.sampler;
    this.#maxSequences = parts.maxSequences;
  }

  /** @throws EngineError naming what is wrong with the folder */
  static async load(name: string, folder: string, config: ServeConfig, blobs: BlobStore): Promise<ModelHost> {
    const model = await loadModelFolder(folder);
    const tokenizer = await loadTokenizerFolder(folder);
    const own = tokenizer.eosTokenId === undefined ? [] : [tokenizer.eosTokenId];
    const eosTokenIds = [...new Set([...own, ...model.eosTokenIds])];
    const maxContext = Math.min(config.SERVE_MAX_CONTEXT, model.config.maxPositions);
    const sampler = createSampler({
      model,
      tokenizer,
      eosTokenIds,
      threads: config.SERVE_THREADS,
      maxBatch: config.SERVE_MAX_BATCH,
      maxContext,
    });
    return new ModelHost({
      name,
      tokenizer,
      chat: createChatFormat({ tokenizer, eosTokenIds }),
      sampler,
      adapters: new AdapterCache({
        maxAdapters: config.SERVE_MAX_ADAPTERS,
        read: (projectId, key) => readAdapter(blobs, projectId, name, key),
        add: (id, lora) => sampler.addAdapter(id, lora),
        remove: (id) => void sampler.removeAdapter(id),
      }),
      maxContext,
      maxSequences: config.SERVE_MAX_SEQUENCES,
    });
  }

  get sequences(): number {
    return this.#sequences;
  }

  /**
   * Samples one answer per request, all together with what else is running.
   * @throws AppError 429 when too much is waiting, 400 for what the sampler refuses
   */
  async generate(requests: readonly GenerateRequest[]): Promise<Generation[]> {
    if (this.#sequences + requests.length > this.#maxSequences) {
      throw new AppError({
        code: 'serve.queue_full',
        status: 429,
        message: `${this.name} has ${this.#sequences} answers to give already. Try again in a moment.`,
        retry: true,
      });
    }
    this.#sequences += requests.length;
    // One failing sequence ends its siblings: nobody would read them.
    const siblings = new AbortController();
    try {
      return await Promise.all(
        requests.map(async (request) => {
          const signal = request.signal ? AbortSignal.any([request.signal, siblings.signal]) : siblings.signal;
          try {
            return await this.#sampler.generate({ ...request, signal });
          } catch (error) {
            siblings.abort(error);
            throw error;
          }
        }),
      );
    } catch (error) {
      throw samplingError(error, this.name);
    } finally {
      this.#sequences -= requests.length;
    }
  }

  async close(): Promise<void> {
    await this.#sampler.close();
  }
}

function samplingError(error: unknown, model: string): unknown {
  if (!(error instanceof EngineError)) return error;
  switch (error.code) {
    case 'engine.sample.prompt_too_long':
      return new AppError({
        code: 'context_length_exceeded',
        status: 400,
        message: `The conversation is too long for ${model}: ${error.message}.`,
        field: 'messages',
      });
    case 'engine.sample.bad_request':
    case 'engine.chat.template':
      return badRequest('invalid_value', error.message);
    case 'engine.sample.unsupported_schema':
    case 'engine.sample.unsupported_pattern':
    case 'engine.sample.unspeakable':
      return badRequest('invalid_json_schema', `Invalid response_format: ${error.message}.`, 'response_format');
    case 'engine.sample.queue_full':
      return new AppError({ code: 'serve.queue_full', status: 429, message: error.message, retry: true });
    case 'engine.sample.closed':
      return new AppError({
        code: 'serve.stopping',
        status: 503,
        message: 'The model server is stopping.',
        retry: true,
      });
    default:
      return error;
  }
}
