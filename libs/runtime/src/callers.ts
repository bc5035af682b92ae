import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { RouteContract } from '@tuneloop/contracts/route';
import type { ServiceName } from '@tuneloop/contracts/services';
import { Agent, request } from 'undici';
import type { Dispatcher } from 'undici';
import type { z } from 'zod';
import { deriveSigningKey } from './auth/keys.ts';
import { MAX_TOKEN_SECONDS, signServiceToken } from './auth/tokens.ts';
import { BoundedCache } from './boundedCache.ts';
import { answerError, brokenAnswer, errorCode, parseAnswer, readText, unreachable } from './callAnswers.ts';
import type { CallTarget, PreparedCall } from './callAnswers.ts';
import { AppError } from './errors.ts';
import { toWire } from './http/wire.ts';
import type { Sendable } from './http/wire.ts';
import type { Logger } from './log.ts';
import { CORRELATION_HEADER, currentTrace, formatTraceparent } from './trace.ts';
import { fieldErrors } from './zodIssues.ts';

export interface CallersOptions {
  /** Base URL of each service that may be called. */
  readonly urls: Readonly<Partial<Record<CallTarget, string>>>;
  /** Who calls. */
  readonly service: ServiceName | 'serve' | 'cli';
  readonly serviceSecret: string;
  readonly log: Logger;
}

/** A call's input by its contract; dates may stand where the wire has texts. */
export interface CallInput<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType> {
  readonly params?: Sendable<z.input<P>>;
  readonly query?: Sendable<z.input<Q>>;
  readonly body?: Sendable<z.input<B>>;
}

export interface CallOptions {
  readonly projectId: string;
  /** On whose behalf; `service:<caller>` unless given. */
  readonly actor?: string;
  readonly correlationId?: string;
  readonly signal?: AbortSignal;
  /** For all attempts together; 10 s unless given. */
  readonly timeoutMs?: number;
  /** Makes a POST safe to repeat. */
  readonly idempotencyKey?: string;
  /** The process to ask where it is not the contract's own service. */
  readonly target?: CallTarget;
}

export interface RawAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** The body as it comes. The caller reads it to its end or destroys it. */
  readonly body: Readable;
}

/** Calls of other services over HTTP, by contract. */
export interface Callers {
  /** @throws AppError the other side's own 4xx; 503 (`retry: true`) when it does not answer or fails. */
  call<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType, R extends z.ZodType>(
    contract: RouteContract<P, Q, B, R>,
    input: CallInput<P, Q, B>,
    options: CallOptions,
  ): Promise<z.output<R>>;
  /** As `call`, for routes that answer with a stream (NDJSON, bytes). `timeoutMs` bounds the wait for the first byte and each pause. */
  raw<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType, R extends z.ZodType>(
    contract: RouteContract<P, Q, B, R>,
    input: CallInput<P, Q, B>,
    options: CallOptions,
  ): Promise<RawAnswer>;
  close(): Promise<void>;
}

const DEFAULT_TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 3_000;
const CONNECTIONS_PER_SERVICE = 64;
const KEEP_ALIVE_MS = 30_000;
const MAX_ATTEMPTS = 4;
const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 2_000;
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
const MAX_CACHED_TOKENS = 2_000;
/** A token is renewed well before it ends, so that a call never sets out with one about to expire. */
const TOKEN_REUSE_MS = (MAX_TOKEN_SECONDS * 1000) / 2;

/** Failures before the request could reach the other side: any method may be repeated. */
const NEVER_SENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'UND_ERR_CONNECT_TIMEOUT']);

export function createCallers(options: CallersOptions): Callers {
  const agent = new Agent({
    connections: CONNECTIONS_PER_SERVICE,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connect: { timeout: CONNECT_TIMEOUT_MS },
    pipelining: 1,
  });
  const key = deriveSigningKey(options.serviceSecret, 'service');
  const tokens = new BoundedCache<Promise<string>>(MAX_CACHED_TOKENS);

  function token(projectId: string, actor: string | undefined): Promise<string> {
    const cacheKey = `${projectId} ${actor ?? ''}`;
    const cached = tokens.get(cacheKey);
    if (cached) return cached;
    const made = signServiceToken(key, {
      service: options.service,
      projectId,
      ...(actor === undefined ? {} : { actor }),
    });
    tokens.set(cacheKey, made, TOKEN_REUSE_MS);
    return made;
  }

  async function send(
    prepared: PreparedCall,
    call: CallOptions,
    signal: AbortSignal,
    timeoutMs: number,
  ): Promise<Dispatcher.ResponseData> {
    const trace = currentTrace();
    return request(prepared.url, {
      dispatcher: agent,
      method: prepared.method,
      signal,
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      headers: {
        authorization: `Bearer ${await token(call.projectId, call.actor)}`,
        accept: 'application/json, application/x-ndjson, */*',
        ...(prepared.body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(trace ? { traceparent: formatTraceparent(trace) } : {}),
        ...(call.correlationId === undefined ? {} : { [CORRELATION_HEADER]: call.correlationId }),
        ...(call.idempotencyKey === undefined ? {} : { 'idempotency-key': call.idempotencyKey }),
      },
      ...(prepared.body === undefined ? {} : { body: prepared.body }),
    });
  }

  /** Sends until an answer comes that is not worth another try, or tries and time are up. */
  async function attempt(
    prepared: PreparedCall,
    call: CallOptions,
    signal: AbortSignal,
    timeoutMs: number,
  ): Promise<Dispatcher.ResponseData> {
    const repeatable =
      prepared.method !== 'POST' && prepared.method !== 'PATCH' ? true : call.idempotencyKey !== undefined;
    for (let tries = 1; ; tries++) {
      try {
        const answer = await send(prepared, call, signal, timeoutMs);
        if (answer.statusCode < 400) return answer;
        const error = await answerError(answer, prepared);
        if (!error.retry || !repeatable || tries >= MAX_ATTEMPTS) throw error;
      } catch (error) {
        if (error instanceof AppError) throw error;
        const neverSent = NEVER_SENT.has(errorCode(error));
        if (signal.aborted || tries >= MAX_ATTEMPTS || !(repeatable || neverSent))
          throw unreachable(prepared, error, call.signal);
        options.log.debug(
          { err: error, target: prepared.target, operation: prepared.operationId, tries },
          'call failed, trying again',
        );
      }
      const backoff = Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** (tries - 1)) * (0.5 + Math.random() / 2);
      await delay(backoff, undefined, { signal, ref: true }).catch((error: unknown) => {
        throw unreachable(prepared, error, call.signal);
      });
    }
  }

  return {
    async call(contract, input, call) {
      const prepared = prepare(options.urls, contract, input, call.target);
      const timeoutMs = call.timeoutMs ?? DEFAULT_TIMEOUT_MS;
      const timeout = AbortSignal.timeout(timeoutMs);
      const signal = call.signal ? AbortSignal.any([call.signal, timeout]) : timeout;
      const answer = await attempt(prepared, call, signal, timeoutMs);
      const text = await readText(answer.body, MAX_ANSWER_BYTES).catch((error: unknown) => {
        throw unreachable(prepared, error, call.signal);
      });
      const result = contract.response.safeParse(text === '' ? undefined : parseAnswer(text, prepared));
      if (result.success) return result.data;
      const [first] = fieldErrors(result.error, undefined, 'response');
      throw brokenAnswer(prepared, new Error(`${first?.field} ${first?.message}`));
    },
    async raw(contract, input, call) {
      const prepared = prepare(options.urls, contract, input, call.target);
      const timeoutMs = call.timeoutMs ?? DEFAULT_TIMEOUT_MS;
      const signal = call.signal ?? new AbortController().signal;
      const answer = await attempt(prepared, call, signal, timeoutMs);
      return { status: answer.statusCode, headers: answer.headers, body: answer.body };
    },
    async close() {
      await agent.destroy();
    },
  };
}

/** Checks the input by the contract and writes the request. A caller's mistake is found here, not on the other side. */
function prepare<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType, R extends z.ZodType>(
  urls: CallersOptions['urls'],
  contract: RouteContract<P, Q, B, R>,
  input: CallInput<P, Q, B>,
  target: CallTarget = contract.service,
): PreparedCall {
  const base = urls[target];
  if (base === undefined) {
    throw new AppError({
      code: 'runtime.call.no_address',
      status: 500,
      message: `No address is configured for ${target}.`,
      retry: false,
    });
  }
  const params = checkedInput(contract, 'params', contract.params, input.params);
  const query = checkedInput(contract, 'query', contract.query, input.query);
  const body = checkedInput(contract, 'body', contract.body, input.body);
  const path = contract.path.replaceAll(/\{(\w+)\}/g, (_whole, name: string) => {
    const value = (params as Record<string, unknown> | undefined)?.[name];
    if (value === undefined || value === '') throw new Error(`${contract.operationId}: no value for {${name}}`);
    return encodeURIComponent(typeof value === 'string' ? value : JSON.stringify(value));
  });
  const url = new URL(base.replace(/\/+$/, '') + path);
  for (const [name, value] of Object.entries((query ?? {}) as Record<string, unknown>)) {
    for (const item of Array.isArray(value) ? value : [value]) {
      if (item !== undefined && item !== null) url.searchParams.append(name, String(item));
    }
  }
  const json = body === undefined ? undefined : JSON.stringify(body);
  return { target, operationId: contract.operationId, method: contract.method, url, body: json };
}

function checkedInput(contract: RouteContract, part: string, schema: z.ZodType | undefined, value: unknown): unknown {
  const wire = value === undefined ? undefined : toWire(value);
  if (schema === undefined || (wire === undefined && part !== 'body')) return wire;
  const result = schema.safeParse(wire);
  if (result.success) return wire;
  const [first] = fieldErrors(result.error, wire, part);
  throw new AppError({
    code: 'runtime.call.input_invalid',
    status: 500,
    message: `A call of ${contract.operationId} was made wrongly.`,
    retry: false,
    cause: new Error(`${contract.operationId} ${part}: ${first?.field} ${first?.message}`),
  });
}
