import type { RouteContract } from '@tuneloop/contracts/route';
import type { z } from 'zod';

/** What a call sends, typed by its contract. */
export interface CallInput<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType> {
  readonly params?: z.input<P>;
  readonly query?: z.input<Q>;
  readonly body?: z.input<B>;
  /** Instead of `body`, for routes that take multipart/form-data. */
  readonly form?: FormData;
}

export interface CallOptions {
  /** Makes a POST safe to repeat: the same key and body give the first answer. Retries need it. */
  readonly idempotencyKey?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

export interface ClientOptions {
  readonly baseUrl: string;
  readonly apiKey: string;
  /** Tries of a call that is safe to repeat, the first included. */
  readonly attempts?: number;
  /** Waits before the second, third, … try double from this. */
  readonly firstWaitMs?: number;
  readonly timeoutMs?: number;
}

const DEFAULT_ATTEMPTS = 6;
const DEFAULT_FIRST_WAIT_MS = 200;
const MAX_WAIT_MS = 5_000;
const DEFAULT_TIMEOUT_MS = 60_000;
const RETRYABLE_STATUS: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504]);

/** An answer that is not a success. `code` is the server's stable code, `body` what it sent. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly code: string | undefined;
  readonly body: unknown;

  constructor(operation: string, status: number, body: unknown) {
    const problem = (typeof body === 'object' && body !== null ? body : {}) as {
      code?: string;
      detail?: string;
      error?: string | { message?: string; code?: string };
    };
    const nested = typeof problem.error === 'object' ? problem.error : undefined;
    const detail =
      problem.detail ?? nested?.message ?? (typeof problem.error === 'string' ? problem.error : 'no reason given');
    super(`${operation}: ${status} ${detail}`);
    this.status = status;
    this.code = problem.code ?? nested?.code;
    this.body = body;
  }
}

/** Calls routes by contract over HTTP, with retries for what is safe to repeat. */
export class Client {
  readonly #options: ClientOptions;

  constructor(options: ClientOptions) {
    this.#options = options;
  }

  /**
   * One call. GET, PUT and DELETE, and POST with an idempotency key, are repeated on connection errors and on answers
   * that say "later".
   * @throws ApiError for the final answer when it is no success.
   */
  async call<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType, R extends z.ZodType>(
    contract: RouteContract<P, Q, B, R>,
    input: CallInput<P, Q, B> = {},
    options: CallOptions = {},
  ): Promise<z.output<R>> {
    const answer = await this.raw(contract, input, options);
    const body: unknown = await answer.json();
    return body as z.output<R>;
  }

  /** As `call`, with the answer unread: for streams and files. */
  async raw<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType, R extends z.ZodType>(
    contract: RouteContract<P, Q, B, R>,
    input: CallInput<P, Q, B> = {},
    options: CallOptions = {},
  ): Promise<Response> {
    const repeatable = contract.method !== 'POST' || options.idempotencyKey !== undefined;
    const attempts = repeatable ? (this.#options.attempts ?? DEFAULT_ATTEMPTS) : 1;
    let waitMs = this.#options.firstWaitMs ?? DEFAULT_FIRST_WAIT_MS;
    for (let attempt = 1; ; attempt++) {
      const outcome = await this.#once(contract, input, options);
      if (outcome instanceof Response && outcome.ok) return outcome;
      const later = outcome instanceof Error || RETRYABLE_STATUS.has(outcome.status);
      if (attempt >= attempts || !later || options.signal?.aborted) {
        if (outcome instanceof Error) throw outcome;
        throw new ApiError(contract.operationId, outcome.status, await readBody(outcome));
      }
      if (outcome instanceof Response) await outcome.body?.cancel();
      await new Promise((resolve) => setTimeout(resolve, waitMs));
      waitMs = Math.min(waitMs * 2, MAX_WAIT_MS);
    }
  }

  async #once(
    contract: RouteContract,
    input: CallInput<z.ZodType, z.ZodType, z.ZodType>,
    options: CallOptions,
  ): Promise<Response | Error> {
    const timeout = AbortSignal.timeout(this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    try {
      return await fetch(this.#url(contract, input), {
        method: contract.method,
        headers: {
          authorization: `Bearer ${this.#options.apiKey}`,
          ...(input.body === undefined ? {} : { 'content-type': 'application/json' }),
          ...(options.idempotencyKey === undefined ? {} : { 'idempotency-key': options.idempotencyKey }),
          ...options.headers,
        },
        ...(input.form ? { body: input.form } : input.body === undefined ? {} : { body: JSON.stringify(input.body) }),
        signal: options.signal ? AbortSignal.any([options.signal, timeout]) : timeout,
      });
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    }
  }

  #url(contract: RouteContract, input: CallInput<z.ZodType, z.ZodType, z.ZodType>): URL {
    const params = (input.params ?? {}) as Record<string, unknown>;
    const path = contract.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(params[name])));
    const url = new URL(path, this.#options.baseUrl);
    for (const [key, value] of Object.entries((input.query ?? {}) as Record<string, unknown>)) {
      if (value !== undefined && value !== null)
        url.searchParams.set(key, typeof value === 'string' ? value : JSON.stringify(value));
    }
    return url;
  }
}

async function readBody(answer: Response): Promise<unknown> {
  const text = await answer.text();
  try {
    return JSON.parse(text);
  } catch {
    return { detail: text.slice(0, 500) };
  }
}
