import {
  ADAPTER_KEY_HEADER,
  serveChatCompletion,
  serveListModels,
  serveLoadAdapter,
} from '@tuneloop/contracts/responses/serve';
import { createAuthenticator } from '@tuneloop/runtime/auth/verifier';
import { openBlobStore } from '@tuneloop/runtime/blobs/open';
import { type Env, parseConfig } from '@tuneloop/runtime/config';
import { AppError, describeError } from '@tuneloop/runtime/errors';
import { openExerciseLog } from '@tuneloop/runtime/exerciseLog';
import { createHttpApp, type HttpApp } from '@tuneloop/runtime/http/app';
import { toAppError } from '@tuneloop/runtime/http/errorMapping';
import { errorBody } from '@tuneloop/runtime/http/errorShape';
import { mountRoute, type RouteContext } from '@tuneloop/runtime/http/mountRoute';
import { createLog, type Logger } from '@tuneloop/runtime/log';
import { createMetrics } from '@tuneloop/runtime/metrics';
import { immutableName, parseImmutableName } from '../domain/target.ts';
import { eventStream } from '../sse.ts';
import { completeChat, type ServeRequest, streamChat } from './chat.ts';
import { serveConfigSchema } from './config.ts';
import { ModelHost } from './modelHost.ts';

export interface ServeServer {
  readonly url: string;
  /** Finishes what is being answered, then frees the models. */
  stop(): Promise<void>;
}

/** Loads the base models and answers OpenAI's protocol for services of the same installation. */
export async function startServe(env: Env, givenLog?: Logger): Promise<ServeServer> {
  const config = parseConfig(serveConfigSchema, env);
  const log = (givenLog ?? createLog({ level: config.LOG_LEVEL })).child({ service: 'serve' });
  const metrics = createMetrics({ service: 'serve', processMetrics: true });
  const blobs = openBlobStore(env, 'responses');
  const hosts = new Map<string, ModelHost>();
  try {
    for (const [name, folder] of config.SERVE_MODELS) {
      hosts.set(name, await ModelHost.load(name, folder, config, blobs));
      log.info({ model: name }, 'model loaded');
    }
    metrics.gauge('serve_sequences', 'Answers being sampled or waiting, per base.', ['model'], (gauge) => {
      for (const host of hosts.values()) gauge.set({ model: host.name }, host.sequences);
    });
    const note = openExerciseLog(config.TUNELOOP_EXERCISE_DIR);
    const app = await createHttpApp({
      service: 'serve',
      log,
      metrics,
      ready: async () => Object.fromEntries([...hosts.keys()].map((name) => [name, { ok: true }])),
      onExercised: (operationId) => note('route', operationId),
    });
    const noDatabase = (): never => {
      throw new Error('the serve process has no database');
    };
    const routes: RouteContext = {
      auth: createAuthenticator({ service: 'serve', secret: config.TUNELOOP_SECRET }),
      pg: { withTenant: noDatabase, withService: noDatabase },
      log,
    };
    mountServe(app, routes, hosts);
    const url = await app.listen({ host: config.HOST, port: config.PORT });
    log.info({ url }, 'ready');
    return {
      url,
      async stop() {
        await app.close();
        await Promise.all([...hosts.values()].map((host) => host.close()));
      },
    };
  } catch (error) {
    await Promise.all([...hosts.values()].map((host) => host.close()));
    throw error;
  }
}

function mountServe(app: HttpApp, ctx: RouteContext, hosts: ReadonlyMap<string, ModelHost>): void {
  const hostNamed = (name: string): ModelHost => {
    const host = hosts.get(name);
    if (host) return host;
    throw new AppError({
      code: 'serve.model.not_found',
      status: 404,
      message: `There is no model ${name.slice(0, 200)} here. There is: ${[...hosts.keys()].join(', ')}.`,
      field: 'model',
    });
  };

  mountRoute(
    app,
    ctx,
    serveChatCompletion,
    async ({ body, auth, raw, reply, signal, log }) => {
      const named = parseImmutableName(body.model) ?? { model: body.model, checkpointId: null };
      const host = hostNamed(named.model);
      const header = raw.headers[ADAPTER_KEY_HEADER];
      const adapter =
        named.checkpointId === null
          ? undefined
          : await host.adapters.acquire({
              checkpointId: named.checkpointId,
              projectId: auth.projectId,
              storageKey: typeof header === 'string' ? header : undefined,
            });
      const request = { host, checkpointId: named.checkpointId, body, model: immutableName(named), signal };
      if (!body.stream) {
        try {
          return await completeChat(request);
        } finally {
          adapter?.release();
        }
      }
      const chunks = heldStream(request, () => adapter?.release());
      void reply.type('text/event-stream; charset=utf-8').header('cache-control', 'no-cache');
      return eventStream(chunks, (error) => {
        log.warn({ reason: describeError(error) }, 'a stream ended with an error');
        return errorBody(toAppError(error), 'openai', raw.id).body;
      });
    },
    { transaction: false },
  );

  mountRoute(
    app,
    ctx,
    serveListModels,
    async ({ auth }) => {
      const data = [...hosts.values()].flatMap((host) => {
        const created = Math.floor(host.createdAt.getTime() / 1000);
        const checkpoints = host.adapters.loaded(auth.projectId);
        return [null, ...checkpoints].map((checkpointId) => ({
          id: immutableName({ model: host.name, checkpointId }),
          object: 'model' as const,
          created,
          owned_by: 'tuneloop',
        }));
      });
      return { object: 'list', data };
    },
    { transaction: false },
  );

  mountRoute(
    app,
    ctx,
    serveLoadAdapter,
    async ({ body, auth }) => {
      const host = hostNamed(body.base_model);
      const { release } = await host.adapters.acquire({
        checkpointId: body.checkpoint_id,
        projectId: auth.projectId,
        storageKey: body.storage_key,
      });
      release();
      return { model: immutableName({ model: host.name, checkpointId: body.checkpoint_id }), loaded: true };
    },
    { transaction: false },
  );
}

/** The chunks, with the adapter held until the last of them or until the reader goes. */
async function* heldStream(request: ServeRequest, release: () => void): AsyncGenerator {
  try {
    yield* streamChat(request);
  } finally {
    release();
  }
}
