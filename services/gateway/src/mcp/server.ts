import { readFile, realpath } from 'node:fs/promises';
import { basename, sep } from 'node:path';
import { McpServer, type ServerContext } from '@modelcontextprotocol/server';
import { ApiError, type Client } from '@tuneloop/client/client';
import { createImage, createSession, getSession, MAX_SESSION_URLS } from '@tuneloop/contracts/ingest/http';
import { createFeedback, getStatistics } from '@tuneloop/contracts/rewards/http';
import {
  createRftCheckpoint,
  deleteRftCheckpoint,
  listRftCheckpoints,
  updateRftCheckpoint,
} from '@tuneloop/contracts/trainer/http';
import { z } from 'zod';

const POLL_MS = 500;
const FETCH_TIMEOUT_MS = 300_000;
const MAX_PATHS = 100;

export interface McpOptions {
  /** Calls the product as whoever connected. */
  readonly client: Client;
  readonly version: string;
  /** Folders whose files may be read, on stdio only; absent over HTTP, where a path would be the server's own. */
  readonly roots?: readonly string[];
}

interface ToolAnswer {
  [key: string]: unknown;
  content: { type: 'text'; text: string }[];
  structuredContent?: Record<string, unknown>;
  isError?: boolean;
}

function answer(value: object): ToolAnswer {
  return { content: [{ type: 'text', text: JSON.stringify(value) }], structuredContent: { ...value } };
}

/** What went wrong as text that an agent can act on; never a stack. */
async function guarded(work: () => Promise<object>): Promise<ToolAnswer> {
  try {
    return answer(await work());
  } catch (error) {
    const text =
      error instanceof ApiError || error instanceof ToolError ? error.message : 'The tool failed on this side.';
    return { content: [{ type: 'text', text }], isError: true };
  }
}

class ToolError extends Error {
  override readonly name = 'ToolError';
}

async function report(ctx: ServerContext, progress: number, total: number, message: string): Promise<void> {
  const token = ctx.mcpReq._meta?.progressToken;
  if (token === undefined) return;
  await ctx.mcpReq.notify({
    method: 'notifications/progress',
    params: { progressToken: token, progress, total, message },
  });
}

/** The product's MCP server: the same four tools over HTTP and stdio, each a call of the public API. */
export function createMcpServer(options: McpOptions): McpServer {
  const server = new McpServer({ name: 'tuneloop', version: options.version }, { capabilities: { tools: {} } });
  registerProcessImages(server, options);
  registerCreateReward(server, options);
  registerGetStatistics(server, options);
  registerManageCheckpoints(server, options);
  return server;
}

function registerProcessImages(server: McpServer, { client, roots }: McpOptions): void {
  const fields = {
    image_urls: z
      .array(z.url({ protocol: /^https?$/ }))
      .max(MAX_SESSION_URLS)
      .default([]),
    context: z
      .object({
        url: z.url({ protocol: /^https?$/ }).optional(),
        category: z.string().max(100).optional(),
        quality_score: z.number().min(0).max(1).optional(),
      })
      .default({}),
    user_id: z.string().max(200).optional(),
  };
  const inputSchema = roots
    ? z.object({ ...fields, image_paths: z.array(z.string()).max(MAX_PATHS).default([]) })
    : z.object(fields);
  server.registerTool(
    'rft_process_images',
    {
      title: 'Process images',
      description: 'Collects pictures into a session; the project then asks its model for candidate answers.',
      inputSchema,
    },
    async (input, ctx) =>
      guarded(async () => {
        const paths = 'image_paths' in input ? (input.image_paths as string[]) : [];
        const total = input.image_urls.length + paths.length;
        if (total === 0) throw new ToolError(`Give image_urls${roots ? ' or image_paths' : ''}: at least one picture.`);
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
          { idempotencyKey: crypto.randomUUID(), signal: ctx.mcpReq.signal },
        );
        for (const [index, path] of paths.entries()) {
          await uploadPath(client, session.id, path, roots ?? [], category);
          await report(ctx, index + 1, total, `${index + 1} of ${total} pictures`);
        }
        return awaitSession(client, session.id, total, ctx);
      }),
  );
}

async function uploadPath(
  client: Client,
  sessionId: string,
  path: string,
  roots: readonly string[],
  category: string | undefined,
): Promise<void> {
  // Links are resolved first: what counts is where the file really lies.
  const real = await realpath(path).catch(() => {
    throw new ToolError(`${path}: there is no such file.`);
  });
  const allowed = await Promise.all(roots.map((root) => realpath(root).catch(() => null)));
  if (!allowed.some((root) => root !== null && real.startsWith(root.endsWith(sep) ? root : root + sep))) {
    throw new ToolError(`${path} lies outside the declared roots: start the server with --root for its folder.`);
  }
  const form = new FormData();
  form.set('session_id', sessionId);
  if (category !== undefined) form.set('category', category);
  form.set('file', new File([new Uint8Array(await readFile(real))], basename(real)));
  await client.call(createImage, { form }, { idempotencyKey: crypto.randomUUID() });
}

async function awaitSession(client: Client, id: string, total: number, ctx: ServerContext): Promise<object> {
  const deadline = performance.now() + FETCH_TIMEOUT_MS;
  for (;;) {
    const session = await client.call(getSession, { params: { id } }, { signal: ctx.mcpReq.signal });
    const { processed, failed, pending } = session.counts;
    await report(ctx, processed + failed, total, `${processed} stored, ${failed} refused, ${pending} to come`);
    const done = pending === 0 && processed + failed >= total;
    if (done || ctx.mcpReq.signal.aborted || performance.now() > deadline) {
      const { responses_created: responses, ready_for_training: ready } = session.counts;
      return {
        session_id: id,
        processed,
        failed,
        pending,
        responses_created: responses,
        ready_for_training: ready,
        failures: session.failures.map(({ source, field, reason }) => ({ source, field, reason })),
      };
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function registerCreateReward(server: McpServer, { client }: McpOptions): void {
  server.registerTool(
    'rft_create_reward',
    {
      title: 'Rate a response',
      description:
        'Says how good a recorded response is: a score in [-1, 1], or like, dislike or neutral with quality 1-5.',
      inputSchema: z
        .object({
          response_id: z.uuid(),
          score: z.number().min(-1).max(1).optional(),
          feedback: z
            .object({
              type: z.enum(['like', 'dislike', 'neutral']),
              quality: z.number().int().min(1).max(5).optional(),
              comments: z.string().max(10_000).optional(),
            })
            .optional(),
        })
        .refine((input) => (input.score === undefined) !== (input.feedback === undefined), {
          path: ['score'],
          message: 'give either score or feedback',
        }),
    },
    async ({ response_id, score, feedback }) =>
      guarded(async () => {
        const body =
          feedback === undefined
            ? ({ kind: 'score', response_id, value: score! } as const)
            : ({
                kind: 'like',
                response_id,
                value: feedback.type,
                ...(feedback.quality === undefined ? {} : { quality: feedback.quality }),
                ...(feedback.comments === undefined ? {} : { comment: feedback.comments }),
              } as const);
        // An agent is not a person: datasets take its word only where they are told to.
        const made = await client.call(
          createFeedback,
          { body: { ...body, synthetic: true } },
          { idempotencyKey: crypto.randomUUID() },
        );
        return { feedback_id: made.id, reward_id: made.reward_id, response_id, score: made.score };
      }),
  );
}

function registerGetStatistics(server: McpServer, { client }: McpOptions): void {
  server.registerTool(
    'rft_get_statistics',
    {
      title: 'Statistics',
      description: 'Responses, rewards and checkpoints of the project, and whether there is enough to train on.',
      inputSchema: z.object({}),
    },
    async () => guarded(() => client.call(getStatistics)),
  );
}

const checkpointData = z.object({
  id: z.uuid().optional(),
  version: z.string().max(200).optional(),
  storage_key: z.string().max(1_000).optional(),
  url: z.string().max(2_000).optional(),
  epoch: z.number().min(0).optional(),
  avg_reward: z.number().optional(),
  is_active: z.boolean().optional(),
});

function registerManageCheckpoints(server: McpServer, { client }: McpOptions): void {
  server.registerTool(
    'rft_manage_checkpoints',
    {
      title: 'Manage checkpoints',
      description: 'Lists, records, activates or deletes checkpoints, or tells which one is active.',
      inputSchema: z.object({
        action: z.enum(['create', 'list', 'get_active', 'activate', 'delete']),
        checkpoint_data: checkpointData.default({}),
      }),
    },
    async ({ action, checkpoint_data: data }) => guarded(() => manageCheckpoints(client, action, data)),
  );
}

async function manageCheckpoints(
  client: Client,
  action: 'create' | 'list' | 'get_active' | 'activate' | 'delete',
  data: z.output<typeof checkpointData>,
): Promise<object> {
  const need = <K extends keyof typeof data>(field: K): NonNullable<(typeof data)[K]> => {
    const value = data[field];
    if (value === undefined) throw new ToolError(`checkpoint_data.${field} is required for action "${action}".`);
    return value as NonNullable<(typeof data)[K]>;
  };
  switch (action) {
    case 'create': {
      const { id: _id, ...fields } = data;
      return client.call(createRftCheckpoint, {
        body: { ...defined(fields), version: need('version'), storage_key: need('storage_key') },
      });
    }
    case 'list':
      return client.call(listRftCheckpoints, { query: data.version === undefined ? {} : { version: data.version } });
    case 'get_active': {
      const page = await client.call(listRftCheckpoints, { query: { active_only: true, limit: 1 } });
      return { success: true, data: page.data[0] ?? null };
    }
    case 'activate':
      return client.call(updateRftCheckpoint, { query: { id: need('id') }, body: { is_active: true } });
    case 'delete':
      return client.call(deleteRftCheckpoint, { query: { id: need('id') } });
  }
}

function defined<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
