import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import {
  chatCompletion,
  type ChatCompletion,
  chatCompletionChunk,
  type ChatCompletionChunk,
  type ChatCompletionRequest,
  modelList,
  type ModelObject,
} from '@tuneloop/contracts/responses/openai';
import { AppError } from '@tuneloop/runtime/errors';
import { Agent, request } from 'undici';
import { z } from 'zod';
import { readEvents } from '../sse.ts';

const CONNECT_TIMEOUT_MS = 5_000;
/** A whole answer is given within this, and a stream never pauses longer. */
export const ANSWER_TIMEOUT_MS = 300_000;
const LIST_TIMEOUT_MS = 5_000;
const MAX_CONNECTIONS = 256;
const KEEP_ALIVE_MS = 30_000;
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;
const MAX_ERROR_BYTES = 64 * 1024;
const MAX_ERROR_MESSAGE_CHARS = 2_000;
const FIRST_BACKOFF_MS = 100;
/** Failures before the request could reach the server: they may be repeated without harm. */
const NEVER_SENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'UND_ERR_CONNECT_TIMEOUT']);

export interface ChatServerOptions {
  /** As people read it in an error: `the model server`, `the upstream`. */
  readonly name: string;
  /** With its `/v1`. */
  readonly baseUrl: string;
  readonly headers: (projectId: string) => Promise<Readonly<Record<string, string>>>;
  /** Tries to connect, with doubling pauses between them: a process that restarts is back within a second or two. */
  readonly connectAttempts: number;
}

export interface ChatCall {
  readonly projectId: string;
  readonly signal?: AbortSignal | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly timeoutMs?: number | undefined;
}

type RequestBody = Readonly<Record<string, unknown>> & Pick<ChatCompletionRequest, 'model' | 'messages'>;

const errorAnswer = z.object({
  error: z.object({
    message: z.string(),
    param: z.string().nullish(),
    code: z.union([z.string(), z.number()]).nullish(),
  }),
});
const problemAnswer = z.object({ detail: z.string(), code: z.string() });

/** One server that speaks OpenAI's protocol: the serve process, or an upstream. */
export class ChatServer {
  readonly #options: ChatServerOptions;
  readonly #agent = new Agent({
    connections: MAX_CONNECTIONS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connect: { timeout: CONNECT_TIMEOUT_MS },
    headersTimeout: ANSWER_TIMEOUT_MS,
    bodyTimeout: ANSWER_TIMEOUT_MS,
  });

  constructor(options: ChatServerOptions) {
    this.#options = options;
  }

  /** @throws AppError the server's own refusal, or 502/503 when it does not answer properly */
  async complete(body: RequestBody, call: ChatCall): Promise<ChatCompletion> {
    const answer = await this.#send('POST', '/chat/completions', { ...body, stream: false }, call);
    return this.#parse(chatCompletion, await this.#text(answer, call));
  }

  /** Resolves when the server has begun to answer; its refusal is thrown here, a later failure by the generator. */
  async stream(body: RequestBody, call: ChatCall): Promise<AsyncGenerator<ChatCompletionChunk>> {
    const answer = await this.#send(
      'POST',
      '/chat/completions',
      { ...body, stream: true, stream_options: { include_usage: true } },
      call,
    );
    return this.#chunks(answer, call);
  }

  async #send(method: 'GET' | 'POST', path: string, body: unknown, call: ChatCall): Promise<Readable> {
    const url = `${this.#options.baseUrl.replace(/\/+$/, '')}${path}`;
    for (let attempt = 1; ; attempt++) {
      try {
        const answer = await request(url, {
          method,
          dispatcher: this.#agent,
          headers: {
            ...(await this.#options.headers(call.projectId)),
            ...(body === undefined ? {} : { 'content-type': 'application/json' }),
            ...call.headers,
          },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
          signal: call.signal ?? null,
          ...(call.timeoutMs === undefined ? {} : { headersTimeout: call.timeoutMs, bodyTimeout: call.timeoutMs }),
        });
        if (answer.statusCode < 300) return answer.body;
        throw await this.#refusal(answer.statusCode, answer.body);
      } catch (error) {
        if (error instanceof AppError) throw error;
        call.signal?.throwIfAborted();
        if (!NEVER_SENT.has(errorCode(error)) || attempt >= this.#options.connectAttempts)
          throw this.#unreachable(error);
      }
      await delay(FIRST_BACKOFF_MS * 2 ** (attempt - 1), undefined, call.signal ? { signal: call.signal } : {});
    }
  }

  async *#chunks(body: Readable, call: ChatCall): AsyncGenerator<ChatCompletionChunk> {
    try {
      for await (const data of readEvents(body)) {
        const json = this.#json(data);
        const failed = errorAnswer.safeParse(json);
        if (failed.success) throw this.#brokenOff(failed.data.error.message);
        yield this.#check(chatCompletionChunk, json);
      }
    } catch (error) {
      call.signal?.throwIfAborted();
      throw error instanceof AppError ? error : this.#unreachable(error);
    } finally {
      body.destroy();
    }
  }

  /** Models that the server offers the project. */
  async models(projectId: string): Promise<ModelObject[]> {
    const call = { projectId, timeoutMs: LIST_TIMEOUT_MS, signal: AbortSignal.timeout(LIST_TIMEOUT_MS) };
    const answer = await this.#send('GET', '/models', undefined, call);
    return this.#parse(modelList, await this.#text(answer, call)).data;
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  async #text(body: Readable, call: ChatCall): Promise<string> {
    try {
      return await readText(body, MAX_ANSWER_BYTES);
    } catch (error) {
      call.signal?.throwIfAborted();
      throw this.#unreachable(error);
    }
  }

  #parse<S extends z.ZodType>(schema: S, text: string): z.output<S> {
    return this.#check(schema, this.#json(text));
  }

  #json(text: string): unknown {
    try {
      return JSON.parse(text);
    } catch (error) {
      throw this.#invalid(error);
    }
  }

  #check<S extends z.ZodType>(schema: S, json: unknown): z.output<S> {
    const result = schema.safeParse(json);
    if (result.success) return result.data;
    throw this.#invalid(result.error);
  }

  #invalid(cause: unknown): AppError {
    return new AppError({
      code: 'responses.provider.answer_invalid',
      status: 502,
      message: `${this.#options.name} gave an answer that is not in OpenAI's form.`,
      retry: true,
      cause,
    });
  }

  #unreachable(cause: unknown): AppError {
    return new AppError({
      code: 'responses.provider.unreachable',
      status: 503,
      message: `${this.#options.name} does not answer. Try again in a moment.`,
      retry: true,
      cause,
    });
  }

  #brokenOff(message: string): AppError {
    return new AppError({
      code: 'responses.provider.failed',
      status: 502,
      message: message.slice(0, MAX_ERROR_MESSAGE_CHARS),
      retry: true,
    });
  }

  /** The server's error as ours: what the caller can mend is passed on; what it cannot is our own fault. */
  async #refusal(status: number, body: Readable): Promise<AppError> {
    const text = await readText(body, MAX_ERROR_BYTES).catch(() => '');
    const { message, code, param } = readError(text);
    const cause = new Error(`${this.#options.name} answered ${status}: ${text.slice(0, 500)}`);
    if (status === 401 || status === 403) {
      const refused = `${this.#options.name} does not accept our credentials: an operator has to look at its key.`;
      return new AppError({ code: 'responses.provider.refused', status: 502, message: refused, retry: false, cause });
    }
    const shown = (message ?? `${this.#options.name} answered with status ${status}.`).slice(
      0,
      MAX_ERROR_MESSAGE_CHARS,
    );
    if (status >= 500 || status === 408) {
      return new AppError({ code: 'responses.provider.failed', status: 503, message: shown, retry: true, cause });
    }
    return new AppError({
      code: code ?? 'responses.provider.refused',
      status,
      message: shown,
      retry: status === 429,
      cause,
      ...(param === undefined ? {} : { field: param }),
    });
  }
}

function readError(text: string): { message?: string; code?: string; param?: string } {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return {};
  }
  const problem = problemAnswer.safeParse(json);
  if (problem.success) return { message: problem.data.detail, code: problem.data.code };
  const parsed = errorAnswer.safeParse(json);
  if (!parsed.success) return {};
  const { message, code, param } = parsed.data.error;
  return {
    message,
    ...(code === null || code === undefined ? {} : { code: String(code) }),
    ...(param ? { param } : {}),
  };
}

function errorCode(error: unknown): string {
  return typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
}

async function readText(body: Readable, maxBytes: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    size += chunk.byteLength;
    if (size > maxBytes) {
      body.destroy();
      throw new Error(`the answer is larger than ${maxBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
