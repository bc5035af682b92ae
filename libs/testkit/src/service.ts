import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EventContract } from '@tuneloop/contracts/event';
import { projectChanged } from '@tuneloop/contracts/gateway/events';
import type { RouteContract, Scope } from '@tuneloop/contracts/route';
import type { ServiceName } from '@tuneloop/contracts/services';
import { deriveSigningKey } from '@tuneloop/runtime/auth/keys';
import { signGatewayToken, signServiceToken } from '@tuneloop/runtime/auth/tokens';
import { Bus } from '@tuneloop/runtime/bus/bus';
import { FaultPoints } from '@tuneloop/runtime/faultPoints';
import { newId } from '@tuneloop/runtime/ids';
import { createLog, type LogLevel } from '@tuneloop/runtime/log';
import { BASE_MIGRATIONS, migrate, readMigrations } from '@tuneloop/runtime/migrate';
import { buildEvent, type EmitInput } from '@tuneloop/runtime/outbox/emit';
import { type RunningService, type ServiceDefinition, startService } from '@tuneloop/runtime/service';
import { Client } from 'pg';
import type { z } from 'zod';
import { createTestDatabase } from './database.ts';
import { eventually } from './eventually.ts';
import { freePort } from './freePort.ts';
import { createTestNats } from './nats.ts';

/** Roles belong to the cluster that all test files share, and their passwords follow from this. */
export const TEST_SECRET = 'test-secret-of-the-whole-run-0123456789abcdef';

export interface CallAs {
  readonly projectId: string;
  /** Default: every scope that a key can have. */
  readonly scopes?: readonly Scope[];
  readonly subject?: string;
  readonly role?: string;
  /** Call as another service instead of a person or key. */
  readonly service?: ServiceName;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface TestAnswer<T = unknown> {
  readonly status: number;
  readonly headers: Headers;
  readonly body: T;
}

export interface TestInput {
  readonly params?: Readonly<Record<string, string>>;
  readonly query?: Readonly<Record<string, string | number | boolean>>;
  readonly body?: unknown;
}

export interface TestSystem {
  readonly services: ReadonlyMap<ServiceName, RunningService>;
  readonly faults: FaultPoints;
  readonly bus: Bus;
  /** Key seed for `signProjectUser`. */
  readonly natsAccountSeed: string | undefined;
  readonly natsUrl: string;
  readonly databaseUrl: string;
  readonly env: Readonly<Record<string, string>>;
  url(service: ServiceName): string;
  /** A gateway token (or a service token) as the `Authorization` header's value. */
  authorization(as: CallAs): Promise<string>;
  /** One request by contract over real HTTP. Never throws on an error status. */
  call<T = Record<string, never>>(contract: RouteContract, input: TestInput, as: CallAs): Promise<TestAnswer<T>>;
  /** Puts an event on its stream as its owner's relay would. Returns the message id; the same `id` twice is a redelivery. */
  publish<S extends z.ZodType>(
    contract: EventContract<S>,
    projectId: string,
    input: EmitInput<S>,
    options?: { readonly id?: string; readonly actor?: string },
  ): Promise<string>;
  /** Announces a project by `project.changed` and waits until each service under test knows it. */
  project(settings?: Partial<z.input<typeof projectChanged.schema>['settings']>): Promise<string>;
  /** As superuser: to look behind the service, never to prepare what a door could. */
  sql<Row extends object>(sql: string, params?: readonly unknown[]): Promise<Row[]>;
  /** Stops one service and starts it again, as after a crash. */
  restart(service: ServiceName): Promise<void>;
  stop(): Promise<void>;
}

export interface TestSystemOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly clock?: () => Date;
  readonly logLevel?: LogLevel;
}

/** Starts one service on a database and a NATS account of its own. */
export async function startTestService(
  definition: ServiceDefinition,
  options: TestSystemOptions = {},
): Promise<TestSystem> {
  return startTestSystem([definition], options);
}

/** Starts several services wired to each other, each on its own port, as deployed. */
export async function startTestSystem(
  definitions: readonly ServiceDefinition[],
  options: TestSystemOptions = {},
): Promise<TestSystem> {
  const log = createLog({ level: options.logLevel ?? 'error' });
  const sets = definitions.map((definition) => ({ service: definition.name, directory: definition.migrations }));
  const database = await createTestDatabase(definitions.map((definition) => definition.name).join('_'), {
    key: await migrationsKey(definitions),
    migrate: (url) => migrate({ adminUrl: url, secret: TEST_SECRET, sets, log }),
  });
  const nats = await createTestNats();
  const blobDirectory = await mkdtemp(join(tmpdir(), 'tuneloop-blobs-'));
  const ports = new Map<ServiceName, number>();
  for (const definition of definitions) ports.set(definition.name, await freePort());
  const urls = Object.fromEntries([...ports].map(([name, port]) => [name, `http://127.0.0.1:${port}`]));
  const env: Record<string, string> = {
    DATABASE_URL: database.url,
    NATS_URL: nats.url,
    ...(nats.serviceCreds === undefined ? {} : { NATS_CREDS: nats.serviceCreds }),
    TUNELOOP_SECRET: TEST_SECRET,
    SERVICE_URLS: JSON.stringify(urls),
    BLOB_STORE: 'local',
    BLOB_DIR: blobDirectory,
    ...(nats.natsAccountSeed === undefined ? {} : { NATS_ACCOUNT_SEED: nats.natsAccountSeed }),
    ...options.env,
  };
  const faults = new FaultPoints();
  const bus = await Bus.connect({ url: nats.url, creds: nats.serviceCreds, name: 'test', log });
  const services = new Map<ServiceName, RunningService>();
  const start = async (definition: ServiceDefinition): Promise<void> => {
    const running = await startService(definition, {
      env: { ...env, ...exerciseLogOf(definition), PORT: String(ports.get(definition.name)) },
      log,
      faults,
      ...(options.clock ? { clock: options.clock } : {}),
    });
    services.set(definition.name, running);
  };
  for (const definition of definitions) await start(definition);

  const system: TestSystem = {
    services,
    faults,
    bus,
    natsAccountSeed: nats.natsAccountSeed,
    natsUrl: nats.url,
    databaseUrl: database.url,
    env,
    url: (service) => urls[service] ?? '',
    authorization,
    call: (contract, input, as) => callContract(urls[contract.service] ?? '', contract, input, as),
    async publish(contract, projectId, input, publishOptions = {}) {
      const event = buildEvent(contract, projectId, publishOptions.actor ?? 'user:test', input);
      const id = publishOptions.id ?? event.id;
      // A message id of its own each time: what must hold is the inbox, not the stream's window.
      await bus.publish(event.subject, JSON.stringify(event.body), {
        ...event.headers,
        'Nats-Msg-Id': newId(),
        'ce-id': id,
      });
      return id;
    },
    async project(settings = {}) {
      const projectId = newId();
      await system.publish(projectChanged, projectId, {
        subject: projectId,
        data: { project_id: projectId, slug: `p-${projectId.slice(-8)}`, name: 'Test', version: 1, settings },
      });
      for (const definition of definitions) {
        if (definition.name === 'gateway') continue;
        await eventually(async () => {
          const rows = await system.sql(`SELECT 1 FROM ${definition.name}.projects WHERE project_id = $1`, [projectId]);
          if (rows.length === 0) throw new Error(`${definition.name} has not seen the project`);
        });
      }
      return projectId;
    },
    async sql<Row extends object>(sql: string, params: readonly unknown[] = []) {
      const client = new Client({ connectionString: database.url });
      await client.connect();
      try {
        return (await client.query<Row>(sql, [...params])).rows;
      } finally {
        await client.end();
      }
    },
    async restart(name) {
      await services.get(name)?.stop();
      const definition = definitions.find((candidate) => candidate.name === name);
      if (!definition) throw new Error(`${name} is not part of this test`);
      await start(definition);
    },
    async stop() {
      await Promise.all([...services.values()].map((service) => service.stop()));
      await bus.close();
      await nats.close();
      await database.drop();
      await rm(blobDirectory, { recursive: true, force: true });
    },
  };
  return system;
}

/** What a test's stand-in for another service serves proves nothing of the real one: only real services are noted. */
function exerciseLogOf(definition: ServiceDefinition): Record<string, string> {
  const directory = process.env.TUNELOOP_EXERCISE_DIR;
  const real = definition.migrations.pathname.endsWith(`/services/${definition.name}/migrations/`);
  return directory !== undefined && real ? { TUNELOOP_EXERCISE_DIR: directory } : {};
}

async function authorization(as: CallAs): Promise<string> {
  if (as.service) {
    const key = deriveSigningKey(TEST_SECRET, 'service');
    return `Bearer ${await signServiceToken(key, { service: as.service, projectId: as.projectId })}`;
  }
  const key = deriveSigningKey(TEST_SECRET, 'gateway');
  const subject = as.subject ?? 'test';
  const token = await signGatewayToken(key, {
    projectId: as.projectId,
    subject,
    actor: `user:${subject}`,
    scopes: as.scopes ?? ['read', 'write', 'feedback', 'train', 'admin'],
    role: as.role ?? 'owner',
    kind: 'user',
  });
  return `Bearer ${token}`;
}

async function callContract<T>(
  base: string,
  contract: RouteContract,
  input: TestInput,
  as: CallAs,
): Promise<TestAnswer<T>> {
  const path = contract.path.replaceAll(/\{(\w+)\}/g, (_, name: string) =>
    encodeURIComponent(input.params?.[name] ?? ''),
  );
  const url = new URL(path, base);
  for (const [key, value] of Object.entries(input.query ?? {})) url.searchParams.set(key, String(value));
  // Internal routes are open to services only.
  const caller: CallAs = contract.scope === 'service' && !as.service ? { ...as, service: 'gateway' } : as;
  const answer = await fetch(url, {
    method: contract.method,
    headers: {
      authorization: await authorization(caller),
      ...(input.body === undefined ? {} : { 'content-type': 'application/json' }),
      ...as.headers,
    },
    ...(input.body === undefined ? {} : { body: JSON.stringify(input.body) }),
  });
  const text = await answer.text();
  const json = /[/+]json\b/.test(answer.headers.get('content-type') ?? '');
  return { status: answer.status, headers: answer.headers, body: (json && text !== '' ? JSON.parse(text) : text) as T };
}

async function migrationsKey(definitions: readonly ServiceDefinition[]): Promise<string> {
  const hash = createHash('sha256').update(TEST_SECRET);
  for (const file of await readMigrations(BASE_MIGRATIONS)) hash.update(file.checksum);
  for (const definition of definitions) {
    hash.update(definition.name);
    for (const file of await readMigrations(definition.migrations)) hash.update(file.name).update(file.checksum);
  }
  return hash.digest('hex');
}
