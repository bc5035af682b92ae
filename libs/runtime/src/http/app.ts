import type { IncomingMessage } from 'node:http';
import multipart from '@fastify/multipart';
import underPressure from '@fastify/under-pressure';
import type { ServiceName } from '@tuneloop/contracts/services';
import { fastify, LogController } from 'fastify';
import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { serializerCompiler, validatorCompiler } from 'fastify-type-provider-zod';
import { AppError, badRequest } from '../errors.ts';
import { newId } from '../ids.ts';
import type { Logger } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { formatTraceparent, runWithTrace, startTrace } from '../trace.ts';
import type { TraceContext } from '../trace.ts';
import { RouteCoverage } from './coverage.ts';
import { toAppError } from './errorMapping.ts';
import { errorBody, errorShapeOf } from './errorShape.ts';
import { parseJsonBody } from './jsonBody.ts';
import { methodsFor } from './methods.ts';

declare module 'fastify' {
  interface FastifyInstance {
    /** Which contracts this app serves and which have been exercised. */
    readonly coverage: RouteCoverage;
  }
  interface FastifyRequest {
    /** The trace that this request belongs to; its `traceparent` is given back to the caller. */
    trace: TraceContext;
  }
}

export type HttpApp = FastifyInstance;

/** One thing that the service needs in order to serve: named, with the reason when it is not there. */
export interface ReadyCheck {
  readonly ok: boolean;
  readonly detail?: string;
}
export type ReadyChecks = Readonly<Record<string, ReadyCheck>>;

export interface HttpAppOptions {
  readonly service: ServiceName | 'serve';
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly ready: () => Promise<ReadyChecks>;
  /** Largest JSON body, bytes. */
  readonly maxBodyBytes?: number;
  /** Routes of this app read multipart bodies by `request.file()` and `request.parts()`. */
  readonly readsForms?: boolean;
  /** Largest single file of a multipart body, bytes. */
  readonly maxFileBytes?: number;
  /** Above this event loop delay (ms) the app answers 503 until it has caught up. */
  readonly maxEventLoopDelayMs?: number;
  /** Told once per operation id when it has first answered with success. */
  readonly onExercised?: (operationId: string) => void;
}

const DEFAULT_MAX_BODY_BYTES = 10 * 1024 * 1024;
const DEFAULT_MAX_FILE_BYTES = 512 * 1024 * 1024;
const DEFAULT_MAX_LOOP_DELAY_MS = 5_000;
const LOOP_SAMPLE_MS = 1_000;
const READY_TIMEOUT_MS = 5_000;
const RETRY_AFTER_SECONDS = 1;
/** Longer than the idle time of the clients' pools, so that the server is not the one to close first. */
const KEEP_ALIVE_MS = 65_000;
/** Time for the whole request to arrive: the largest file over a slow line. */
const REQUEST_TIMEOUT_MS = 600_000;
const MAX_PARAM_CHARS = 1_000;
/** What is read and dropped of a body that is too large, so that its sender gets to read why. */
const MAX_DRAINED_BYTES = 64 * 1024 * 1024;
const MAX_DRAIN_MS = 10_000;
const MULTIPART_LIMITS = {
  fieldNameSize: 200,
  fieldSize: 1024 * 1024,
  fields: 50,
  files: 20,
  parts: 70,
  headerPairs: 50,
};
const REQUEST_ID = /^[\w.-]{8,100}$/;
const HEALTH_PATHS: ReadonlySet<string> = new Set(['/healthz', '/readyz', '/metrics']);

/** The Fastify app that every service mounts its routes on: health, metrics, traces, one error handler. */
export async function createHttpApp(options: HttpAppOptions): Promise<HttpApp> {
  const loggerInstance: FastifyBaseLogger = options.log;
  const app: HttpApp = fastify({
    loggerInstance,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'request_id' }),
    bodyLimit: options.maxBodyBytes ?? DEFAULT_MAX_BODY_BYTES,
    keepAliveTimeout: KEEP_ALIVE_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    forceCloseConnections: 'idle',
    genReqId: (raw) => {
      const given = raw.headers['x-request-id'];
      return typeof given === 'string' && REQUEST_ID.test(given) ? given : newId();
    },
    routerOptions: { maxParamLength: MAX_PARAM_CHARS },
    frameworkErrors: (error, request, reply) => sendError(error, request, reply),
  });
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  app.decorate('coverage', new RouteCoverage(options.onExercised));
  app.decorateRequest('trace');
  addBodyParsers(app);
  addRequestHooks(app, options);
  app.setErrorHandler(sendError);
  const methods = methodsFor(app);
  app.setNotFoundHandler((request, reply) => sendError(notFoundError(methods, request, reply), request, reply));
  if (options.readsForms === true) {
    await app.register(multipart, {
      limits: { ...MULTIPART_LIMITS, fileSize: options.maxFileBytes ?? DEFAULT_MAX_FILE_BYTES },
    });
  }
  await app.register(underPressure, {
    maxEventLoopDelay: options.maxEventLoopDelayMs ?? DEFAULT_MAX_LOOP_DELAY_MS,
    sampleInterval: LOOP_SAMPLE_MS,
    pressureHandler: (request) => {
      if (HEALTH_PATHS.has(request.url)) return;
      throw new AppError({
        code: 'http.overloaded',
        status: 503,
        message: 'This service has more to do than it can. Try again in a moment.',
        retry: true,
      });
    },
  });
  addOperations(app, options);
  return app;
}

function addBodyParsers(app: HttpApp): void {
  app.removeContentTypeParser('application/json');
  app.removeContentTypeParser('text/plain');
  app.addContentTypeParser(
    /^application\/(?:[\w.+-]+\+)?json(?:;|$)/i,
    { parseAs: 'string' },
    (_request, text, done) => {
      try {
        done(null, parseJsonBody(text.toString()));
      } catch (error) {
        done(toAppError(error));
      }
    },
  );
  // The route reads the stream itself and sets its own bound.
  app.addContentTypeParser('application/octet-stream', (_request, payload, done) => done(null, payload));
}

function addRequestHooks(app: HttpApp, options: HttpAppOptions): void {
  const duration = options.metrics.histogram(
    'http_request_seconds',
    'Time from the first byte of a request to its answer.',
    ['method', 'route', 'status'],
  );
  app.addHook('onRequest', (request, reply, done) => {
    const traceparent = request.headers.traceparent;
    request.trace = startTrace(typeof traceparent === 'string' ? traceparent : undefined);
    void reply.header('x-request-id', request.id).header('traceparent', formatTraceparent(request.trace));
    if (request.url.includes('%00')) {
      done(badRequest('request.nul_character', 'The address holds a NUL character: remove it', 'url'));
      return;
    }
    done();
  });
  app.addHook('preHandler', (request, _reply, done) => runWithTrace(request.trace, done));
  app.addHook('onResponse', (request, reply, done) => {
    const route = request.routeOptions.url ?? 'unmatched';
    duration.observe({ method: request.method, route, status: String(reply.statusCode) }, reply.elapsedTime / 1000);
    if (!HEALTH_PATHS.has(route)) {
      request.log.debug(
        {
          trace_id: request.trace.traceId,
          method: request.method,
          route,
          status: reply.statusCode,
          ms: Math.round(reply.elapsedTime),
        },
        'answered',
      );
    }
    done();
  });
}

function addOperations(app: HttpApp, options: HttpAppOptions): void {
  app.get('/healthz', async () => ({ status: 'ok', service: options.service }));
  app.get('/readyz', async (_request, reply) => {
    const checks = await readyWithin(options.ready);
    const ok = Object.values(checks).every((check) => check.ok);
    return reply.status(ok ? 200 : 503).send({ status: ok ? 'ready' : 'not_ready', service: options.service, checks });
  });
  app.get('/metrics', async (_request, reply) =>
    reply.type(options.metrics.contentType).send(await options.metrics.text()),
  );
}

/** A check that hangs is a check that fails. */
async function readyWithin(ready: () => Promise<ReadyChecks>): Promise<ReadyChecks> {
  const timeout = Promise.withResolvers<ReadyChecks>();
  const timer = setTimeout(
    () => timeout.resolve({ checks: { ok: false, detail: `no answer within ${READY_TIMEOUT_MS} ms` } }),
    READY_TIMEOUT_MS,
  );
  try {
    return await Promise.race([ready(), timeout.promise]);
  } catch (error) {
    return { checks: { ok: false, detail: toAppError(error).message } };
  } finally {
    clearTimeout(timer);
  }
}

function notFoundError(methods: (path: string) => string[], request: FastifyRequest, reply: FastifyReply): AppError {
  const path = request.url.split('?', 1)[0] ?? '';
  const allowed = methods(path);
  if (allowed.length > 0) {
    void reply.header('allow', allowed.join(', '));
    return new AppError({
      code: 'http.method_not_allowed',
      status: 405,
      message: `${request.method} is not possible here. Possible: ${allowed.join(', ')}.`,
    });
  }
  return new AppError({
    code: 'http.not_found',
    status: 404,
    message: `There is nothing at ${request.method} ${path.slice(0, 200)}.`,
  });
}

/** Answers any error in the shape of the address; logs what is our fault with its cause. */
function sendError(thrown: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const error = toAppError(thrown);
  const fields = {
    trace_id: request.trace?.traceId,
    code: error.code,
    method: request.method,
    route: request.routeOptions?.url,
  };
  if (error.status >= 500) request.log.error({ ...fields, err: error.cause ?? error }, error.message);
  else request.log.debug({ ...fields, status: error.status }, error.message);
  if (reply.sent) return;
  const shape = errorShapeOf(request.url);
  const { contentType, body } = errorBody(error, shape, request.id);
  if (error.status === 503 && !reply.hasHeader('retry-after')) void reply.header('retry-after', RETRY_AFTER_SECONDS);
  if (error.status === 401 && shape === 'problem') void reply.header('www-authenticate', 'Bearer realm="tuneloop"');
  // OpenAI's SDKs repeat 408, 409 and 5xx by themselves; this header is how they are told not to.
  if (shape === 'openai' && !error.retry && (error.status >= 500 || error.status === 409 || error.status === 408)) {
    void reply.header('x-should-retry', 'false');
  }
  const send = (): void => {
    void reply.serializer(JSON.stringify).status(error.status).header('content-type', contentType).send(body);
  };
  if (error.status !== 413 || request.raw.complete) return send();
  // A body that was not read to its end would be taken for the next request on this connection.
  void reply.header('connection', 'close');
  drain(request.raw, send);
}

/** Closing a connection on which the other side still sends takes the answer away from it: first it may finish. */
function drain(raw: IncomingMessage, then: () => void): void {
  let bytes = 0;
  const timer = setTimeout(end, MAX_DRAIN_MS);
  function end(): void {
    clearTimeout(timer);
    raw.off('data', count).off('end', end).off('close', end).off('error', end);
    then();
  }
  function count(chunk: Uint8Array): void {
    bytes += chunk.byteLength;
    if (bytes > MAX_DRAINED_BYTES) end();
  }
  raw.on('data', count).once('end', end).once('close', end).once('error', end);
  raw.resume();
}
