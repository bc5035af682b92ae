import { readFile, realpath, stat } from 'node:fs/promises';
import { basename, sep } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { McpServer, ServerContext } from '@modelcontextprotocol/server';
import { ApiError, type Client } from '@tuneloop/client/client';
import {
  createImage,
  createSession,
  getSession,
  MAX_IMAGE_BYTES,
  MAX_SESSION_URLS,
} from '@tuneloop/contracts/ingest/http';
import { z } from 'zod';
import { guarded, ToolError } from './answers.ts';
import type { McpOptions } from './options.ts';

const POLL_MS = 500;
const FETCH_TIMEOUT_MS = 300_000;
const MAX_PATHS = 100;

const webUrl = z.url({ protocol: /^https?$/, error: 'must be an http or https URL' });
const fields = {
  image_urls: z.array(webUrl).max(MAX_SESSION_URLS).default([]),
  context: z
    .strictObject({
      url: webUrl.optional(),
      category: z.string().max(100).optional(),
      quality_score: z.number().min(0).max(1).optional(),
    })
    .default({}),
  user_id: z.string().max(200).optional(),
};
const overHttp = z.strictObject(fields);
const overStdio = z.strictObject({ ...fields, image_paths: z.array(z.string()).max(MAX_PATHS).default([]) });

type ProcessImages = z.output<typeof overHttp> & { readonly image_paths?: readonly string[] | undefined };

/** How the code of a refusal begins that ingest has written down in the session itself. */
const RECORDED = 'ingest.picture.';

interface Failure {
  readonly source: string;
  readonly field: string | null;
  readonly reason: string;
}

export function registerProcessImages(server: McpServer, { client, roots }: McpOptions): void {
  server.registerTool(
    'rft_process_images',
    {
      title: 'Process images',
      description: 'Collects pictures into a session; the project then asks its model for candidate answers.',
      inputSchema: roots ? overStdio : overHttp,
    },
    async (input: ProcessImages, ctx) =>
      guarded(async () => {
        const paths = input.image_paths ?? [];
        const total = input.image_urls.length + paths.length;
        if (total === 0) {
          throw new ToolError(`Give image_urls${roots ? ' or image_paths' : ''}: at least one picture.`);
        }
        // A path that may not be read stops everything before anything is stored.
        const files = await Promise.all(paths.map((path) => readable(path, roots ?? [])));
        const progress = new Progress(ctx, total);
        const id = await openSession(client, input, ctx.mcpReq.signal);
        const unrecorded: Failure[] = [];
        for (const [index, file] of files.entries()) {
          const failure = await upload(client, id, file, input.context.category, ctx.mcpReq.signal);
          if (failure) unrecorded.push(failure);
          await progress.report(index + 1, `${index + 1} of ${total} pictures`);
        }
        return awaitSession(client, id, { progress, signal: ctx.mcpReq.signal, unrecorded });
      }),
  );
}

async function openSession(client: Client, input: z.output<typeof overHttp>, signal: AbortSignal): Promise<string> {
  const { category, url, quality_score: quality } = input.context;
  const session = await client.call(
    createSession,
    {
      body: {
        image_urls: input.image_urls,
        ...(url === undefined ? {} : { url }),
        ...(category === undefined ? {} : { category }),
        ...(input.user_id === undefined ? {} : { user_id: input.user_id }),
        metadata: quality === undefined ? {} : { quality_score: quality },
      },
    },
    { idempotencyKey: crypto.randomUUID(), signal },
  );
  return session.id;
}

/** The file behind a path. @throws ToolError when it is none, too large, or not below a declared root */
async function readable(path: string, roots: readonly string[]): Promise<string> {
  // Links are resolved first: what counts is where the file really lies.
  const real = await realpath(path).catch(() => {
    throw new ToolError(`image_paths: ${path}: there is no such file.`);
  });
  const allowed = await Promise.all(roots.map((root) => realpath(root).catch(() => null)));
  if (!allowed.some((root) => root !== null && real.startsWith(root.endsWith(sep) ? root : root + sep))) {
    throw new ToolError(
      `image_paths: ${path} lies outside the declared roots: start the server with --root for its folder.`,
    );
  }
  const found = await stat(real);
  if (!found.isFile()) throw new ToolError(`image_paths: ${path} is not a file.`);
  if (found.size > MAX_IMAGE_BYTES) throw new ToolError(`image_paths: ${path} is larger than 10 MB.`);
  return real;
}

/** Uploads one file. A refusal stops no other file; what the session does not tell of it is returned. */
async function upload(
  client: Client,
  sessionId: string,
  path: string,
  category: string | undefined,
  signal: AbortSignal,
): Promise<Failure | undefined> {
  const form = new FormData();
  form.set('session_id', sessionId);
  if (category !== undefined) form.set('category', category);
  form.set('file', new File([new Uint8Array(await readFile(path))], basename(path)));
  try {
    await client.call(createImage, { form }, { idempotencyKey: crypto.randomUUID(), signal });
    return undefined;
  } catch (error) {
    if (!(error instanceof ApiError) || error.status >= 500 || error.status === 401 || error.status === 403)
      throw error;
    if (error.code?.startsWith(RECORDED)) return undefined;
    return { source: path, field: 'image_paths', reason: error.message };
  }
}

/** Tells the caller how far a tool is, if it asked: each report further than the one before, as the protocol wants. */
class Progress {
  readonly #ctx: ServerContext;
  readonly #total: number;
  #last = 0;

  constructor(ctx: ServerContext, total: number) {
    this.#ctx = ctx;
    this.#total = total;
  }

  async report(done: number, message: string): Promise<void> {
    const token = this.#ctx.mcpReq._meta?.progressToken;
    const progress = Math.min(done, this.#total);
    if (token === undefined || progress <= this.#last) return;
    this.#last = progress;
    await this.#ctx.mcpReq.notify({
      method: 'notifications/progress',
      params: { progressToken: token, progress, total: this.#total, message },
    });
  }
}

interface Waiting {
  readonly progress: Progress;
  readonly signal: AbortSignal;
  /** Refusals that the session knows nothing of. */
  readonly unrecorded: readonly Failure[];
}

/** Waits until nothing of the session is to be fetched any more, or the caller has enough. */
async function awaitSession(client: Client, id: string, { progress, signal, unrecorded }: Waiting): Promise<object> {
  const deadline = performance.now() + FETCH_TIMEOUT_MS;
  for (;;) {
    const session = await client.call(getSession, { params: { id } }, { signal });
    const { processed, pending, responses_created: responses, ready_for_training: ready } = session.counts;
    const failed = session.counts.failed + unrecorded.length;
    await progress.report(processed + failed, `${processed} stored, ${failed} refused, ${pending} to come`);
    if (pending === 0 || performance.now() > deadline) {
      const recorded = session.failures.map(({ source, field, reason }) => ({ source, field, reason }));
      return {
        session_id: id,
        processed,
        failed,
        pending,
        responses_created: responses,
        ready_for_training: ready,
        failures: [...unrecorded, ...recorded],
      };
    }
    await delay(POLL_MS, undefined, { signal });
  }
}
