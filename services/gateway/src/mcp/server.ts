import { McpServer } from '@modelcontextprotocol/server';
import type { Client } from '@tuneloop/client/client';
import { createFeedback, getStatistics } from '@tuneloop/contracts/rewards/http';
import {
  createRftCheckpoint,
  deleteRftCheckpoint,
  listRftCheckpoints,
  updateRftCheckpoint,
} from '@tuneloop/contracts/trainer/http';
import { z } from 'zod';
import { guarded, ToolError } from './answers.ts';
import type { McpOptions } from './options.ts';
import { registerProcessImages } from './processImages.ts';

/** The product's MCP server: the same four tools over HTTP and stdio, each a call of the public API. */
export function createMcpServer(options: McpOptions): McpServer {
  const server = new McpServer({ name: 'tuneloop', version: options.version }, { capabilities: { tools: {} } });
  registerProcessImages(server, options);
  registerCreateReward(server, options);
  registerGetStatistics(server, options);
  registerManageCheckpoints(server, options);
  return server;
}

function registerCreateReward(server: McpServer, { client }: McpOptions): void {
  server.registerTool(
    'rft_create_reward',
    {
      title: 'Rate a response',
      description:
        'Says how good a recorded response is: a score in [-1, 1], or like, dislike or neutral with quality 1-5.',
      inputSchema: z
        .strictObject({
          response_id: z.uuid(),
          score: z.number().min(-1).max(1).optional(),
          feedback: z
            .strictObject({
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
      inputSchema: z.strictObject({}),
    },
    async () => guarded(() => client.call(getStatistics)),
  );
}

const checkpointData = z.strictObject({
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
      inputSchema: z.strictObject({
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
    return value;
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
