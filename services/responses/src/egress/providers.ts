import { ADAPTER_KEY_HEADER, serveLoadAdapter } from '@tuneloop/contracts/responses/serve';
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionRequest,
  ModelObject,
} from '@tuneloop/contracts/responses/openai';
import { deriveSigningKey } from '@tuneloop/runtime/auth/keys';
import { signServiceToken } from '@tuneloop/runtime/auth/tokens';
import { type Callers, createCallers } from '@tuneloop/runtime/callers';
import { AppError, describeError } from '@tuneloop/runtime/errors';
import type { Logger } from '@tuneloop/runtime/log';
import type { ResponsesConfig } from '../config.ts';
import { checkLocalRequest } from '../domain/localRequest.ts';
import { immutableName, type ModelTarget } from '../domain/target.ts';
import { type ChatCall, ChatServer } from './chatServer.ts';

/** The serve process is back within this when it restarts; an upstream has load balancers of its own. */
const LOCAL_CONNECT_ATTEMPTS = 6;
const UPSTREAM_CONNECT_ATTEMPTS = 2;
/** How long a list of models is taken as it was. */
const LIST_FRESH_MS = 30_000;
/** A list that could not be had is not asked for again within this. */
const LIST_RETRY_MS = 2_000;
const LOAD_TIMEOUT_MS = 120_000;
const TOKENS_PER_PRICE = 1_000_000;

export type ChatBody = ChatCompletionRequest;

/** The servers that answer: the local engine and one upstream, each when configured. */
export class Providers {
  readonly #config: ResponsesConfig;
  readonly #local: ChatServer | undefined;
  readonly #upstream: ChatServer | undefined;
  readonly #serveCallers: Callers | undefined;
  readonly localModels: ModelNames;
  readonly upstreamModels: ModelNames;

  constructor(config: ResponsesConfig, secret: string, log: Logger) {
    this.#config = config;
    if (config.SERVE_URL !== undefined) {
      const key = deriveSigningKey(secret, 'service');
      this.#local = new ChatServer({
        name: 'The model server',
        baseUrl: `${config.SERVE_URL.replace(/\/+$/, '')}/v1`,
        headers: async (projectId) => ({
          authorization: `Bearer ${await signServiceToken(key, { service: 'responses', projectId })}`,
        }),
        connectAttempts: LOCAL_CONNECT_ATTEMPTS,
      });
      this.#serveCallers = createCallers({
        urls: { serve: config.SERVE_URL },
        service: 'responses',
        serviceSecret: secret,
        log,
      });
    }
    if (config.UPSTREAM_BASE_URL !== undefined) {
      const headers: Record<string, string> =
        config.UPSTREAM_API_KEY === undefined ? {} : { authorization: `Bearer ${config.UPSTREAM_API_KEY}` };
      this.#upstream = new ChatServer({
        name: 'The upstream',
        baseUrl: config.UPSTREAM_BASE_URL,
        headers: async () => headers,
        connectAttempts: UPSTREAM_CONNECT_ATTEMPTS,
      });
    }
    this.localModels = new ModelNames(this.#local, log);
    this.upstreamModels = new ModelNames(this.#upstream, log);
  }

  get hasUpstream(): boolean {
    return this.#upstream !== undefined;
  }

  /** @throws AppError 400 naming what the target cannot honour */
  check(target: ModelTarget, body: ChatBody): void {
    if (target.provider === 'local') checkLocalRequest(body);
  }

  async complete(target: ModelTarget, body: ChatBody, call: ChatCall): Promise<ChatCompletion> {
    return this.#server(target).complete(providerBody(target, body), withAdapter(target, call));
  }

  async stream(target: ModelTarget, body: ChatBody, call: ChatCall): Promise<AsyncGenerator<ChatCompletionChunk>> {
    return this.#server(target).stream(providerBody(target, body), withAdapter(target, call));
  }

  /** Makes the serve process hold a checkpoint before traffic needs it. */
  async preload(target: ModelTarget, projectId: string): Promise<void> {
    if (target.provider !== 'local' || target.checkpointId === null || target.storageKey === null) return;
    if (!this.#serveCallers) throw notConfigured('local');
    await this.#serveCallers.call(
      serveLoadAdapter,
      { body: { base_model: target.model, checkpoint_id: target.checkpointId, storage_key: target.storageKey } },
      { projectId, target: 'serve', timeoutMs: LOAD_TIMEOUT_MS },
    );
  }

  /** US dollars. The local engine's own cost is counted by nobody yet: 0. */
  cost(target: ModelTarget, promptTokens: number, completionTokens: number): number {
    if (target.provider === 'local') return 0;
    const { UPSTREAM_PRICE_INPUT_USD: input, UPSTREAM_PRICE_OUTPUT_USD: output } = this.#config;
    return (promptTokens * input + completionTokens * output) / TOKENS_PER_PRICE;
  }

  async close(): Promise<void> {
    await Promise.all([this.#local?.close(), this.#upstream?.close(), this.#serveCallers?.close()]);
  }

  #server(target: ModelTarget): ChatServer {
    const server = target.provider === 'local' ? this.#local : this.#upstream;
    if (!server) throw notConfigured(target.provider);
    return server;
  }
}

function notConfigured(provider: ModelTarget['provider']): AppError {
  const variable = provider === 'local' ? 'SERVE_URL' : 'UPSTREAM_BASE_URL';
  return new AppError({
    code: 'responses.provider.not_configured',
    status: 503,
    message: `This model cannot be asked: ${variable} is not set.`,
    retry: false,
  });
}

/** What goes to the provider: its own model name, and nothing that is between the client and us. */
function providerBody(target: ModelTarget, body: ChatBody): ChatBody {
  const { store: _store, metadata: _metadata, stream: _stream, stream_options: _options, ...rest } = body;
  return { ...rest, model: target.provider === 'local' ? immutableName(target) : target.model };
}

function withAdapter(target: ModelTarget, call: ChatCall): ChatCall {
  if (target.provider !== 'local' || target.storageKey === null) return call;
  return { ...call, headers: { ...call.headers, [ADAPTER_KEY_HEADER]: target.storageKey } };
}

/** Names that a server offers, asked for now and then. What was known last stays known while the server is away. */
export class ModelNames {
  readonly #server: ChatServer | undefined;
  readonly #log: Logger;
  #known: readonly ModelObject[] = [];
  #freshUntil = 0;
  #asking: Promise<void> | undefined;

  constructor(server: ChatServer | undefined, log: Logger) {
    this.#server = server;
    this.#log = log;
  }

  /** As known now, without asking. */
  get known(): readonly ModelObject[] {
    return this.#known;
  }

  has(name: string): boolean {
    return this.#known.some((model) => model.id === name);
  }

  /** Asks again when the list is old. Never throws. */
  async refresh(projectId: string): Promise<readonly ModelObject[]> {
    if (this.#server && Date.now() >= this.#freshUntil) {
      this.#asking ??= this.#ask(this.#server, projectId).finally(() => {
        this.#asking = undefined;
      });
      await this.#asking;
    }
    return this.#known;
  }

  async #ask(server: ChatServer, projectId: string): Promise<void> {
    try {
      // A checkpoint belongs to a project; only bases are names for everybody.
      this.#known = (await server.models(projectId)).filter((model) => !model.id.includes(':ckpt-'));
      this.#freshUntil = Date.now() + LIST_FRESH_MS;
    } catch (error) {
      this.#freshUntil = Date.now() + LIST_RETRY_MS;
      this.#log.debug({ reason: describeError(error) }, 'the list of models could not be had');
    }
  }
}
