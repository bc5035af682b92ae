import { existsSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { INTAKE_STREAM } from '@tuneloop/contracts/ingest/events';
import { streamSubjects } from '@tuneloop/contracts/registry';
import { streamName } from '@tuneloop/contracts/event';
import { SERVICES, type ServiceName } from '@tuneloop/contracts/services';
import type { Logger } from 'pino';
import { z } from 'zod';
import type { Authenticator } from './auth/auth.ts';
import type { KeyLookup } from './auth/keyVerification.ts';
import { createAuthenticator } from './auth/verifier.ts';
import type { BlobStore } from './blobs/blobStore.ts';
import { openBlobStore } from './blobs/open.ts';
import { Bus } from './bus/bus.ts';
import { provisionConsumer, provisionStream } from './bus/provision.ts';
import { type Callers, createCallers } from './callers.ts';
import { type Env, parseConfig } from './config.ts';
import { describeError } from './errors.ts';
import { eventNameOfSubject, type NoteExercise, openExerciseLog } from './exerciseLog.ts';
import { FaultPoints } from './faultPoints.ts';
import { createHttpApp, type HttpApp, type ReadyCheck } from './http/app.ts';
import { newId } from './ids.ts';
import { ConsumerLoop } from './inbox/consumer.ts';
import type { MessageHandler } from './inbox/handler.ts';
import { Lifecycle } from './lifecycle.ts';
import { createLog, LOG_LEVELS } from './log.ts';
import { createMetrics, type Metrics } from './metrics.ts';
import { serviceDatabaseUrl } from './migrate.ts';
import { mountOperations } from './operations.ts';
import { OutboxRelay } from './outbox/relay.ts';
import { Database } from './pg/database.ts';
import { createSchemaCheck } from './schemaVersion.ts';

const HTTP_STOP_MS = 10_000;
const CONSUMER_STOP_MS = 15_000;
const JOB_STOP_MS = 15_000;
const RELAY_STOP_MS = 5_000;
/** The least that the server accepts. */
const INTAKE_DUPLICATE_WINDOW_MS = 100;

const port = z.coerce.number().int().min(0).max(65_535);

/** What every service reads from the environment. */
const baseSchema = z.object({
  /** Postgres, as a role that may log in as `tl_<service>`: the service swaps in its own user and password. */
  DATABASE_URL: z.string().min(1),
  /** Used as it is, when the service's own login is managed elsewhere. */
  SERVICE_DATABASE_URL: z.string().optional(),
  NATS_URL: z.string().min(1),
  NATS_CREDS_FILE: z.string().optional(),
  NATS_CREDS: z.string().optional(),
  TUNELOOP_SECRET: z.string().min(32, 'must be at least 32 characters; make one with: openssl rand -hex 32'),
  HOST: z.string().default('127.0.0.1'),
  PORT: port.default(0),
  /** `{"gateway":"http://…", …}`: where the services listen. */
  SERVICE_URLS: z
    .string()
    .default('{}')
    .transform((value, ctx) => {
      try {
        return z.partialRecord(z.enum(SERVICES), z.url()).parse(JSON.parse(value));
      } catch {
        ctx.addIssue({ code: 'custom', message: 'must be a JSON object of service name to URL' });
        return z.NEVER;
      }
    }),
  LOG_LEVEL: z.enum(LOG_LEVELS).default('info'),
  /** Armed fault points, for crash tests: `outbox.after_publish:kill@3`. */
  TUNELOOP_FAULTS: z.string().optional(),
  /** A folder with one file a service of the same, read at each start: a test changes it between two crashes. */
  TUNELOOP_FAULTS_DIR: z.string().optional(),
  /** A folder where a test run gathers which routes and events its processes exercised. */
  TUNELOOP_EXERCISE_DIR: z.string().optional(),
  SUPABASE_URL: z.url().optional(),
  SUPABASE_JWT_SECRET: z.string().optional(),
});
export type BaseConfig = z.output<typeof baseSchema>;

/** Something that runs beside requests and messages for as long as the service does. */
export interface Job {
  readonly name: string;
  start(): void | Promise<void>;
  stop(): Promise<void>;
}

export interface ServiceContext<C = unknown> {
  readonly name: ServiceName;
  readonly config: C;
  readonly base: BaseConfig;
  /** The raw environment, for what a child process inherits. */
  readonly env: Env;
  readonly log: Logger;
  readonly pg: Database;
  readonly bus: Bus;
  readonly blobs: BlobStore;
  readonly callers: Callers;
  readonly auth: Authenticator;
  readonly metrics: Metrics;
  readonly faults: FaultPoints;
  readonly clock: () => Date;
  /** Unique per process start: owner of leases. */
  readonly instance: string;
  /** Paused and resumed by operators; woken after commits. */
  readonly relay: OutboxRelay;
}

/** What a service is made of. */
export interface ServiceParts<Ctx> {
  routes(app: HttpApp, ctx: Ctx): void | Promise<void>;
  readonly handlers: readonly MessageHandler<Ctx>[];
  readonly jobs?: readonly Job[];
  /** Routes that read multipart bodies. */
  readonly readsForms?: boolean;
  /** Larger bodies than the default, for uploads. */
  readonly maxBodyBytes?: number;
}

export interface ServiceDefinition<S extends z.ZodType = z.ZodType> {
  readonly name: ServiceName;
  readonly migrations: URL;
  readonly config: S;
  /** The gateway looks keys up itself instead of asking itself. */
  readonly keyLookup?: (pg: Database, base: BaseConfig) => KeyLookup;
  create(
    ctx: ServiceContext<z.output<S>>,
  ): ServiceParts<ServiceContext<z.output<S>>> | Promise<ServiceParts<ServiceContext<z.output<S>>>>;
}

export function defineService<S extends z.ZodType>(definition: ServiceDefinition<S>): ServiceDefinition<S> {
  return definition;
}

export interface StartOptions {
  readonly env: Env;
  readonly clock?: () => Date;
  readonly faults?: FaultPoints;
  readonly log?: Logger;
  /** Heap and CPU metrics: for one service of a shared process only. */
  readonly processMetrics?: boolean;
}

export interface RunningService {
  readonly name: ServiceName;
  readonly url: string;
  readonly app: HttpApp;
  readonly ctx: ServiceContext;
  stop(): Promise<void>;
}

/**
 * Starts one service: config, connections, streams and consumers, HTTP, relay, consumers, jobs, in that order; stops
 * in reverse with a time limit for each. The schema must be migrated before.
 */
export async function startService(definition: ServiceDefinition, options: StartOptions): Promise<RunningService> {
  const { name } = definition;
  const base = parseConfig(baseSchema, options.env);
  const config: unknown = parseConfig(definition.config, options.env);
  const log = (options.log ?? createLog({ level: base.LOG_LEVEL })).child({ service: name });
  const faults = options.faults ?? FaultPoints.parse(base.TUNELOOP_FAULTS ?? readFaults(base, name));
  const lifecycle = new Lifecycle({ log });
  try {
    return await assemble({ definition, options, base, config, log, faults, lifecycle });
  } catch (error) {
    await lifecycle.stop();
    throw error;
  }
}

function readFaults(base: BaseConfig, name: ServiceName): string | undefined {
  if (base.TUNELOOP_FAULTS_DIR === undefined) return undefined;
  const file = join(base.TUNELOOP_FAULTS_DIR, name);
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
}

interface Assembly {
  readonly definition: ServiceDefinition;
  readonly options: StartOptions;
  readonly base: BaseConfig;
  readonly config: unknown;
  readonly log: Logger;
  readonly faults: FaultPoints;
  readonly lifecycle: Lifecycle;
}

async function assemble(parts: Assembly): Promise<RunningService> {
  const { definition, options, base, config, log, faults, lifecycle } = parts;
  const { name } = definition;
  const metrics = createMetrics({ service: name, processMetrics: options.processMetrics ?? false });
  const pg = new Database({
    url: base.SERVICE_DATABASE_URL ?? serviceDatabaseUrl(base.DATABASE_URL, base.TUNELOOP_SECRET, name),
    schema: name,
    applicationName: `tuneloop-${name}`,
    log,
    faults,
  });
  await lifecycle.add('postgres', { start: () => pg.ping(), stop: () => pg.close() });
  const bus = await Bus.connect({
    url: base.NATS_URL,
    credsFile: base.NATS_CREDS_FILE,
    creds: base.NATS_CREDS,
    name: `tuneloop-${name}`,
    log,
  });
  await lifecycle.add('nats', { stop: () => bus.close() });
  await provisionAllStreams(bus, log);

  const note = openExerciseLog(base.TUNELOOP_EXERCISE_DIR);
  const relay = new OutboxRelay({
    pg,
    bus,
    streams: [streamName(name)],
    log,
    faults,
    onPublished: (subject) => note('published', eventNameOfSubject(subject)),
  });
  const ctx: ServiceContext = {
    name,
    config,
    base,
    env: options.env,
    log,
    pg,
    bus,
    blobs: openBlobStore(options.env, name),
    callers: createCallers({ urls: base.SERVICE_URLS, serviceSecret: base.TUNELOOP_SECRET, service: name, log }),
    auth: createServiceAuthenticator(definition, pg, base),
    metrics,
    faults,
    clock: options.clock ?? (() => new Date()),
    instance: `${name}@${hostname()}:${process.pid}:${newId().slice(-8)}`,
    relay,
  };
  await lifecycle.add('callers', { stop: () => ctx.callers.close() });
  const service = await definition.create(ctx);

  const schemaCheck = await createSchemaCheck(pg, name, definition.migrations);
  const app = await createHttpApp({
    service: name,
    log,
    metrics,
    ready: async () => {
      const [postgres, schema] = await Promise.all([
        answers(async () => pg.ping().then(() => ({ ok: true }))),
        answers(schemaCheck),
      ]);
      return { postgres, schema, nats: { ok: bus.connected } };
    },
    onExercised: (operationId) => note('route', operationId),
    readsForms: service.readsForms ?? false,
    ...(service.maxBodyBytes === undefined ? {} : { maxBodyBytes: service.maxBodyBytes }),
  });
  mountOperations(app, ctx);
  await service.routes(app, ctx);
  let url = '';
  await lifecycle.add('http', {
    start: async () => {
      url = await app.listen({ host: base.HOST, port: base.PORT });
    },
    stop: () => app.close(),
    stopTimeoutMs: HTTP_STOP_MS,
  });

  await lifecycle.add('relay', { start: () => relay.start(), stop: () => relay.stop(), stopTimeoutMs: RELAY_STOP_MS });
  await startConsumers(service.handlers, ctx, lifecycle, note);
  for (const job of service.jobs ?? []) {
    await lifecycle.add(job.name, { start: () => job.start(), stop: () => job.stop(), stopTimeoutMs: JOB_STOP_MS });
  }
  log.info({ url }, 'ready');
  return { name, url, app, ctx, stop: () => lifecycle.stop() };
}

async function startConsumers(
  handlers: readonly MessageHandler<ServiceContext>[],
  ctx: ServiceContext,
  lifecycle: Lifecycle,
  note: NoteExercise,
): Promise<void> {
  const handled = ctx.metrics.histogram('event_handle_seconds', 'Time to handle one event', ['consumer', 'outcome']);
  const loops = handlers.map((handler) => {
    const loop: ConsumerLoop<ServiceContext> = new ConsumerLoop({
      service: ctx.name,
      handler,
      ctx,
      pg: ctx.pg,
      bus: ctx.bus,
      log: ctx.log,
      faults: ctx.faults,
      onHandled: (outcome, seconds) => {
        handled.observe({ consumer: handler.name, outcome }, seconds);
        if (outcome === 'done') note('handled', loop.durable);
      },
    });
    note('consumer', loop.durable);
    return { handler, loop };
  });
  await Promise.all(
    loops.map(({ handler, loop }) =>
      provisionConsumer(ctx.bus, { stream: handler.stream, durable: loop.durable, filter: handler.filter }, ctx.log),
    ),
  );
  await lifecycle.add('consumers', {
    start: () => loops.forEach(({ loop }) => loop.start()),
    stop: async () => void (await Promise.all(loops.map(({ loop }) => loop.stop()))),
    stopTimeoutMs: CONSUMER_STOP_MS,
  });
}

function createServiceAuthenticator(definition: ServiceDefinition, pg: Database, base: BaseConfig): Authenticator {
  const gatewayUrl = base.SERVICE_URLS.gateway;
  return createAuthenticator({
    service: definition.name,
    secret: base.TUNELOOP_SECRET,
    ...(definition.keyLookup ? { keyLookup: definition.keyLookup(pg, base) } : gatewayUrl ? { gatewayUrl } : {}),
    ...(base.SUPABASE_URL === undefined
      ? {}
      : {
          supabase: {
            url: base.SUPABASE_URL,
            ...(base.SUPABASE_JWT_SECRET === undefined ? {} : { jwtSecret: base.SUPABASE_JWT_SECRET }),
          },
        }),
  });
}

/** A consumer may start before the service that publishes: so every service makes sure of every stream. */
async function provisionAllStreams(bus: Bus, log: Logger): Promise<void> {
  for (const owner of SERVICES) {
    const subjects = streamSubjects(owner);
    if (subjects.length > 0) await provisionStream(bus, { name: streamName(owner), subjects }, log);
  }
  // Message ids on the intake are the tenants' own and the window is one for all of them: as short as it can be, so
  // that nobody can suppress another's message. The inbox key (project, source, id) is what dedupes there.
  await provisionStream(
    bus,
    { name: INTAKE_STREAM, subjects: ['ext.*.*.submitted.v1'], duplicateWindowMs: INTAKE_DUPLICATE_WINDOW_MS },
    log,
  );
}

async function answers(check: () => Promise<ReadyCheck>): Promise<ReadyCheck> {
  try {
    return await check();
  } catch (error) {
    return { ok: false, detail: describeError(error, 200) };
  }
}
