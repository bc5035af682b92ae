import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import fastifyStatic from '@fastify/static';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import type { GatewayContext } from '../config.ts';

/** Addresses that the console's own router takes over; it has one page for all of them. */
const PAGES = ['/', '/review'];
const PAGE = 'index.html';

/** Files named by their content never change; the rest is asked about each time. */
const FOREVER = 'public, max-age=31536000, immutable';
const ASK = 'no-cache';

/**
 * Serves the built console: a route a file and a route a page, so that any other address stays what it was, a 404 of
 * the API included.
 */
export async function mountConsole(app: HttpApp, ctx: GatewayContext): Promise<void> {
  if (ctx.config.CONSOLE_DIR === undefined) return;
  const folder = resolve(ctx.config.CONSOLE_DIR);
  const built = await stat(join(folder, PAGE)).catch(() => undefined);
  if (!built?.isFile()) {
    ctx.log.warn({ folder }, `CONSOLE_DIR holds no ${PAGE}: no console is served`);
    return;
  }
  await app.register(fastifyStatic, {
    root: folder,
    wildcard: false,
    index: false,
    dotfiles: 'ignore',
    preCompressed: true,
    cacheControl: false,
    setHeaders: (reply, path) => {
      void reply.header('cache-control', path.startsWith(join(folder, 'assets/')) ? FOREVER : ASK);
    },
  });
  for (const page of PAGES) app.get(page, (_request, reply) => reply.sendFile(PAGE));
}
