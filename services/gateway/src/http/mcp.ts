import { createMcpHandler } from '@modelcontextprotocol/server';
import { Client } from '@tuneloop/client/client';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { GatewayContext } from '../config.ts';
import { createMcpServer } from '../mcp/server.ts';

/**
 * `/mcp`, streamable HTTP. Each request is answered by a server of its own that calls the public API with the
 * caller's own credentials, so a tool can do what its key can and nothing else.
 */
export function mountMcp(app: HttpApp, ctx: GatewayContext, version: string): void {
  const handler = createMcpHandler(
    ({ requestInfo }) => {
      const credential = credentialOf(requestInfo?.headers);
      return createMcpServer({
        client: new Client({ baseUrl: ctx.base.SERVICE_URLS.gateway!, apiKey: credential }),
        version,
      });
    },
    { onerror: (error) => ctx.log.warn({ err: error }, 'MCP request failed') },
  );
  app.route({
    method: ['GET', 'POST', 'DELETE'],
    url: '/mcp',
    onRequest: async (request) => {
      request.caller = await ctx.auth.authenticate(request.headers);
    },
    handler: async (request, reply) => reply.send(await handler.fetch(toWebRequest(request, reply))),
  });
}

function toWebRequest(request: FastifyRequest, reply: FastifyReply): Request {
  const headers = new Headers();
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined && name !== 'content-length')
      headers.set(name, Array.isArray(value) ? value.join(', ') : value);
  }
  // Whoever hangs up before the answer is whole wants no more of it.
  const gone = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) gone.abort();
  });
  return new Request(`${request.protocol}://${request.host}${request.url}`, {
    method: request.method,
    headers,
    signal: gone.signal,
    ...(request.body === undefined || request.body === null ? {} : { body: JSON.stringify(request.body) }),
  });
}

function credentialOf(headers: Headers | undefined): string {
  return headers?.get('authorization')?.replace(/^bearer\s+/i, '') ?? headers?.get('apikey') ?? '';
}
