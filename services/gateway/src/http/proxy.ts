import replyFrom from '@fastify/reply-from';
import { fastifyPath, isPublic, type RouteContract } from '@tuneloop/contracts/route';
import type { ServiceName } from '@tuneloop/contracts/services';
import type { Auth } from '@tuneloop/runtime/auth/auth';
import { deriveSigningKey } from '@tuneloop/runtime/auth/keys';
import { MAX_TOKEN_SECONDS, signGatewayToken } from '@tuneloop/runtime/auth/tokens';
import { BoundedCache } from '@tuneloop/runtime/boundedCache';
import { AppError, badRequest } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { GatewayContext } from '../config.ts';

const CONNECTIONS_PER_SERVICE = 128;
/** Long enough for a slow generation and for an upload over a slow line. */
const UPSTREAM_TIMEOUT_MS = 600_000;
const MAX_CACHED_TOKENS = 5_000;
/** Tokens are reused for less than they live, so that the last use is still well inside. */
const TOKEN_REUSE_MS = (MAX_TOKEN_SECONDS * 1000) / 2;
const RETRY_AFTER_SECONDS = 1;

declare module 'fastify' {
  interface FastifyRequest {
    /** Who calls; set for proxied routes before the rate limit looks. */
    caller?: Auth;
  }
}

/**
 * The public door: each public route of another service is passed on to it, body streamed and untouched, with the
 * caller's credentials exchanged for a short-lived gateway token. What a service answers goes back as it is.
 */
export async function mountProxy(app: HttpApp, ctx: GatewayContext, routes: readonly RouteContract[]): Promise<void> {
  const key = deriveSigningKey(ctx.base.TUNELOOP_SECRET, 'gateway');
  const tokens = new BoundedCache<Promise<string>>(MAX_CACHED_TOKENS);

  const tokenFor = (auth: Auth): Promise<string> => {
    const cacheKey = `${auth.projectId} ${auth.actor} ${auth.role} ${auth.scopes.join(',')}`;
    const cached = tokens.get(cacheKey);
    if (cached) return cached;
    const made = signGatewayToken(key, auth);
    tokens.set(cacheKey, made, TOKEN_REUSE_MS);
    return made;
  };

  await app.register(async (scope) => {
    await scope.register(replyFrom, {
      undici: {
        connections: CONNECTIONS_PER_SERVICE,
        pipelining: 1,
        bodyTimeout: UPSTREAM_TIMEOUT_MS,
        headersTimeout: UPSTREAM_TIMEOUT_MS,
      },
      disableRequestLogging: true,
    });
    // Bodies pass through as streams: nothing is parsed, copied or limited twice.
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', (_request, payload, done) => done(null, payload));

    for (const route of routes) {
      if (route.service === 'gateway' || !isPublic(route)) continue;
      scope.route({
        method: route.method,
        url: fastifyPath(route.path),
        onRequest: async (request) => {
          if (route.scope !== null) request.caller = await ctx.auth.authenticate(request.headers);
        },
        handler: async (request, reply) => {
          const token = request.caller ? await tokenFor(request.caller) : undefined;
          return forward(ctx, route.service, request, reply, token);
        },
      });
    }
  });
}

function forward(
  ctx: GatewayContext,
  service: ServiceName,
  request: FastifyRequest,
  reply: FastifyReply,
  token: string | undefined,
): FastifyReply {
  const path = pathOf(request);
  const base = ctx.base.SERVICE_URLS[service];
  if (base === undefined) throw unavailable(service);
  // The query stays out of what is parsed here: it may hold anything, and goes on as it came.
  return reply.from(`${base}${path}`, {
    // A retry is the client's to decide: it holds the Idempotency-Key.
    retriesCount: 0,
    rewriteRequestHeaders: (_request, headers) => {
      const { apikey: _apikey, authorization: _authorization, ...rest } = headers;
      return {
        ...rest,
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        'x-request-id': request.id,
        // Addresses that a service hands out are those of this door.
        'x-forwarded-host': request.host,
        'x-forwarded-proto': request.protocol,
      };
    },
    onError: (_reply, { error }) => {
      void reply.header('retry-after', RETRY_AFTER_SECONDS).send(unavailable(service, error));
    },
  });
}

/** @throws AppError 400 for a path that would lead elsewhere once its escapes are read */
function pathOf(request: FastifyRequest): string {
  const [path = ''] = request.url.split('?', 1);
  if (/(^|\/)\.\.|\.\.(\/|$)/.test(decodeURIComponent(path))) {
    throw badRequest('http.url_invalid', 'The address holds "..": give the name itself', 'url');
  }
  return path;
}

function unavailable(service: ServiceName, cause?: unknown): AppError {
  return new AppError({
    code: 'gateway.service.unavailable',
    status: 503,
    message: `The ${service} service does not answer. Try again in a moment, with the same Idempotency-Key.`,
    retry: true,
    cause,
  });
}
