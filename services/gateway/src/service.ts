import cors from '@fastify/cors';
import helmet from '@fastify/helmet';
import rateLimit from '@fastify/rate-limit';
import { loadRoutes } from '@tuneloop/contracts/routes';
import { AppError } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { defineService } from '@tuneloop/runtime/service';
import packageJson from '../package.json' with { type: 'json' };
import { type GatewayContext, gatewayConfig } from './config.ts';
import { LiveFeed } from './events/liveFeed.ts';
import { mountAccess } from './http/access.ts';
import { mountConsole } from './http/console.ts';
import { mountDocs } from './http/docs.ts';
import { keyLookup, mountInternal } from './http/internal.ts';
import { mountGatewayOperations } from './http/operations.ts';
import { mountMcp } from './http/mcp.ts';
import { mountProxy } from './http/proxy.ts';
import { mountStreamEvents } from './http/streamEvents.ts';

/** Headers that clients of the Supabase edge functions and of the OpenAI SDKs send. */
const CORS_HEADERS = [
  'authorization',
  'x-client-info',
  'apikey',
  'content-type',
  'idempotency-key',
  'if-match',
  'last-event-id',
  'openai-organization',
  'openai-project',
  // What the OpenAI SDKs add in a browser.
  ...[
    'lang',
    'package-version',
    'os',
    'arch',
    'runtime',
    'runtime-version',
    'retry-count',
    'timeout',
    'helper-method',
  ].map((name) => `x-stainless-${name}`),
];
const CORS_MAX_AGE_SECONDS = 86_400;

export const gatewayService = defineService({
  name: 'gateway',
  migrations: new URL('../migrations/', import.meta.url),
  config: gatewayConfig,
  keyLookup,
  create: async (ctx: GatewayContext) => {
    const routes = await loadRoutes();
    const feed = new LiveFeed(ctx);
    return {
      routes: async (app) => {
        await addGuards(app, ctx);
        mountAccess(app, ctx);
        mountInternal(app, ctx);
        mountGatewayOperations(app, ctx);
        mountStreamEvents(app, ctx, feed);
        mountMcp(app, ctx, packageJson.version);
        mountDocs(app, routes, packageJson.version);
        await mountConsole(app, ctx);
        await mountProxy(app, ctx, routes);
      },
      handlers: [],
      jobs: [feed],
    };
  },
});

async function addGuards(app: HttpApp, ctx: GatewayContext): Promise<void> {
  const origins = ctx.config.CORS_ORIGINS;
  await app.register(cors, {
    origin: origins === '*' ? '*' : origins.split(',').map((origin) => origin.trim()),
    methods: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'],
    allowedHeaders: CORS_HEADERS,
    exposedHeaders: ['etag', 'x-request-id', 'idempotency-replayed', 'retry-after'],
    maxAge: CORS_MAX_AGE_SECONDS,
    // Clients of the edge functions expect a body-less 200, not 204.
    optionsSuccessStatus: 200,
    strictPreflight: false,
  });
  await app.register(helmet, {
    contentSecurityPolicy: {
      directives: {
        'style-src': ["'self'", "'unsafe-inline'"],
        'img-src': ["'self'", 'data:', 'blob:'],
        'upgrade-insecure-requests': null,
      },
    },
    crossOriginResourcePolicy: { policy: 'cross-origin' },
  });
  await app.register(rateLimit, {
    hook: 'preHandler',
    max: ctx.config.RATE_LIMIT_PER_MINUTE,
    timeWindow: '1 minute',
    // One bucket a key or person; before that is known, the address.
    keyGenerator: (request) => request.caller?.actor ?? request.ip,
    allowList: (request) => ['/healthz', '/readyz', '/metrics'].includes(request.url),
    errorResponseBuilder: (_request, context) =>
      new AppError({
        code: 'gateway.rate_limited',
        status: 429,
        message: `More than ${context.max} requests a minute. Try again in ${context.after}.`,
        retry: true,
      }),
  });
}
