import { Readable } from 'node:stream';
import { fastifyPath } from '@tuneloop/contracts/route';
import type { RouteContract } from '@tuneloop/contracts/route';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { ANONYMOUS, requireScope } from '../auth/auth.ts';
import type { Auth, Authenticator } from '../auth/auth.ts';
import { AppError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Database, Tx } from '../pg/database.ts';
import { CORRELATION_HEADER } from '../trace.ts';
import { fieldErrors } from '../zodIssues.ts';
import type { HttpApp } from './app.ts';
import { coerceQuery } from './coerceQuery.ts';
import { claimIdempotencyKey, idempotencyKey, storeIdempotentAnswer } from './idempotency.ts';
import type { IdempotencyKey } from './idempotency.ts';
import { ValidationError } from './validationError.ts';
import { toWire } from './wire.ts';
import type { Sendable } from './wire.ts';

/** What a mounted route needs of its service. */
export interface RouteContext {
  readonly pg: Pick<Database, 'withTenant' | 'withService'>;
  readonly auth: Authenticator;
  readonly log: Logger;
}

/** A checked request without a transaction of its own. */
export interface DetachedRequest<
  P extends z.ZodType = z.ZodType,
  Q extends z.ZodType = z.ZodType,
  B extends z.ZodType = z.ZodType,
> {
  readonly params: z.output<P>;
  readonly query: z.output<Q>;
  readonly body: z.output<B>;
  /** `ANONYMOUS` on a route without scope. */
  readonly auth: Auth;
  /** The turn of the loop that a calling service named. */
  readonly correlationId: string | undefined;
  readonly raw: FastifyRequest;
  readonly reply: FastifyReply;
  readonly log: Logger;
  /** Fires when the client goes away before the answer is out. */
  readonly signal: AbortSignal;
  /** One transaction of the caller's project. */
  readonly tenant: <T>(work: (tx: Tx) => Promise<T>) => Promise<T>;
  /**
   * As `tenant`, and the answer is kept under the request's `Idempotency-Key` (if it has one) in the same transaction;
   * a repeated request gets that answer without `work` being run. A route that reads its body itself (`consumes`) says
   * by `content` what the body was, a hash of files included: the same key with other content is refused.
   */
  readonly idempotent: <T>(work: (tx: Tx) => Promise<T>, content?: unknown) => Promise<T>;
}

/** A checked request inside its transaction: committed when the handler returns, rolled back when it throws. */
export interface RouteRequest<
  P extends z.ZodType = z.ZodType,
  Q extends z.ZodType = z.ZodType,
  B extends z.ZodType = z.ZodType,
> extends DetachedRequest<P, Q, B> {
  readonly tx: Tx;
}

/**
 * What a handler returns: the contract's body, with `Date` where the wire has an ISO time; a stream for `produces`
 * routes. Inferred as constant, so that `{ success: true }` keeps its literal.
 */
export type RouteAnswer<R extends z.ZodType> = Sendable<z.input<R>> | Readable;

export interface MountOptions {
  /** false: no transaction around the handler, for streams and slow work; it opens its own by `req.tenant`. */
  readonly transaction?: boolean;
  /** Largest body of this route in bytes, where it differs from the app's. */
  readonly maxBodyBytes?: number;
}

type AnyRequest = DetachedRequest & { readonly tx?: Tx };

/**
 * Serves a contract: credentials and scope (401, 403) before the body is read, then params, query and body by the
 * contract's schemas (400 naming each field), then the handler in one transaction of the caller's project, then the
 * answer by the contract's response schema.
 *
 * A handler may set another status by `req.reply.status(…)`. A POST with `Idempotency-Key` is answered once.
 */
export function mountRoute<
  P extends z.ZodType,
  Q extends z.ZodType,
  B extends z.ZodType,
  R extends z.ZodType,
  const A extends RouteAnswer<NoInfer<R>>,
>(
  app: HttpApp,
  ctx: RouteContext,
  contract: RouteContract<P, Q, B, R>,
  handler: (request: DetachedRequest<P, Q, B>) => Promise<A>,
  options: MountOptions & { readonly transaction: false },
): void;
export function mountRoute<
  P extends z.ZodType,
  Q extends z.ZodType,
  B extends z.ZodType,
  R extends z.ZodType,
  const A extends RouteAnswer<NoInfer<R>>,
>(
  app: HttpApp,
  ctx: RouteContext,
  contract: RouteContract<P, Q, B, R>,
  handler: (request: RouteRequest<P, Q, B>) => Promise<A>,
  options?: MountOptions,
): void;
export function mountRoute<
  P extends z.ZodType,
  Q extends z.ZodType,
  B extends z.ZodType,
  R extends z.ZodType,
  const A extends RouteAnswer<NoInfer<R>>,
>(
  app: HttpApp,
  ctx: RouteContext,
  contract: RouteContract<P, Q, B, R>,
  handler: (request: RouteRequest<P, Q, B>) => Promise<A>,
  options: MountOptions = {},
): void {
  app.coverage.mount(contract);
  const callers = new WeakMap<FastifyRequest, Auth>();
  app.route({
    method: contract.method,
    url: fastifyPath(contract.path),
    ...(options.maxBodyBytes === undefined ? {} : { bodyLimit: options.maxBodyBytes }),
    onRequest: async (request) => {
      callers.set(request, await authorise(ctx, contract, request));
      checkMediaType(contract, request);
    },
    handler: async (raw, reply) => {
      void reply.status(contract.status ?? 200);
      const request = checkedRequest(ctx, contract, raw, reply, callers.get(raw) ?? ANONYMOUS);
      const inTransaction = options.transaction !== false;
      const run = async (tx?: Tx): Promise<unknown> => {
        const input: AnyRequest = tx ? { ...request, tx } : request;
        return handler(input as RouteRequest<P, Q, B>);
      };
      const answer = inTransaction ? await request.idempotent(run) : await run();
      if (reply.sent || request.signal.aborted) return reply;
      app.coverage.exercise(contract.operationId);
      if (answer instanceof Readable) return sendStream(reply, contract, answer);
      // Inside a transaction the answer has been checked and stored already.
      return sendBody(reply, inTransaction ? answer : checkedAnswer(contract, answer));
    },
  });
}

async function authorise(ctx: RouteContext, contract: RouteContract, request: FastifyRequest): Promise<Auth> {
  if (contract.scope === null) return ANONYMOUS;
  const auth = await ctx.auth.authenticate({
    authorization: request.headers.authorization,
    apikey: request.headers.apikey,
  });
  requireScope(auth, contract.scope);
  return auth;
}

function checkMediaType(contract: RouteContract, request: FastifyRequest): void {
  const given = request.headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase();
  if (given === undefined || request.method === 'GET' || request.method === 'HEAD') return;
  const expected = contract.consumes ?? 'application/json';
  const fits = expected === 'application/json' ? /^application\/(?:[\w.+-]+\+)?json$/.test(given) : given === expected;
  const bodiless = contract.body === undefined && contract.consumes === undefined;
  if (fits || bodiless) return;
  throw new AppError({
    code: 'http.media_type_unsupported',
    status: 415,
    message: `The content type ${given.slice(0, 100)} is not accepted here. Send ${expected}.`,
    field: 'Content-Type',
  });
}

function parsePart<S extends z.ZodType>(
  schema: S | undefined,
  value: unknown,
  where: 'body' | 'query' | 'path',
): z.output<S> {
  const result = (schema ?? z.unknown()).safeParse(value);
  if (result.success) return result.data as z.output<S>;
  throw new ValidationError(fieldErrors(result.error, value, where), where);
}

function checkedRequest(
  ctx: RouteContext,
  contract: RouteContract,
  raw: FastifyRequest,
  reply: FastifyReply,
  auth: Auth,
): DetachedRequest {
  const params = parsePart(contract.params, raw.params, 'path');
  const rawQuery = raw.query as Readonly<Record<string, unknown>>;
  const query = parsePart(contract.query, contract.query ? coerceQuery(contract.query, rawQuery) : rawQuery, 'query');
  const body = contract.consumes ? undefined : parsePart(contract.body, raw.body, 'body');
  const keyFor = (content: unknown): IdempotencyKey | null =>
    contract.method === 'POST' && contract.scope !== null
      ? idempotencyKey(raw.headers['idempotency-key'], contract.operationId, { params, query, body: content })
      : null;
  // Made at once, so that a malformed key is refused before any work.
  const key = keyFor(body);
  const correlation = raw.headers[CORRELATION_HEADER];
  const abort = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) abort.abort(new Error('the client has gone'));
  });
  const tenant = <T>(work: (tx: Tx) => Promise<T>): Promise<T> =>
    contract.scope === null ? ctx.pg.withService(work) : ctx.pg.withTenant(auth.projectId, work, { actor: auth.actor });
  return {
    params,
    query,
    body,
    auth,
    correlationId: auth.kind === 'service' && typeof correlation === 'string' ? correlation : undefined,
    raw,
    reply,
    log: ctx.log.child({ request_id: raw.id, operation: contract.operationId, project_id: auth.projectId }),
    signal: abort.signal,
    tenant,
    idempotent: async (work, content) => {
      const own = content === undefined ? key : keyFor(content);
      return tenant((tx) => answerOnce(tx, own, contract, reply, () => work(tx)));
    },
  };
}

/** Runs `work` unless the key has an answer already; checks and keeps the answer in the same transaction. */
async function answerOnce<T>(
  tx: Tx,
  key: IdempotencyKey | null,
  contract: RouteContract,
  reply: FastifyReply,
  work: () => Promise<T>,
): Promise<T> {
  const stored = key ? await claimIdempotencyKey(tx, key) : null;
  if (stored) {
    void reply.status(stored.status).header('idempotency-replayed', 'true');
    return stored.body as T;
  }
  const answer = await work();
  if (answer instanceof Readable || reply.sent) return answer;
  const body = checkedAnswer(contract, answer);
  if (key) await storeIdempotentAnswer(tx, key, { status: reply.statusCode, body });
  return body as T;
}

/** The answer as JSON values that fit the contract. @throws AppError 500 when the handler broke its contract. */
function checkedAnswer(contract: RouteContract, answer: unknown): unknown {
  if (contract.produces) return answer;
  const wire = toWire(answer);
  const result = contract.response.safeParse(wire);
  if (result.success) return result.data;
  const [first] = fieldErrors(result.error, wire, 'response');
  throw new AppError({
    code: 'runtime.response_invalid',
    status: 500,
    message: 'This side made an answer that breaks its own contract. The request id finds it in the log.',
    retry: false,
    cause: new Error(`${contract.operationId}: ${first?.field} ${first?.message}`),
  });
}

function sendStream(reply: FastifyReply, contract: RouteContract, stream: Readable): FastifyReply {
  if (!reply.hasHeader('content-type')) void reply.type(contract.produces ?? 'application/octet-stream');
  return reply.send(stream);
}

function sendBody(reply: FastifyReply, body: unknown): FastifyReply {
  if (body === undefined || reply.statusCode === 204 || reply.statusCode === 304) return reply.send();
  if (typeof body === 'string' && reply.hasHeader('content-type')) return reply.send(body);
  return reply.type('application/json; charset=utf-8').serializer(JSON.stringify).send(body);
}
