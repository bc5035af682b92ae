import { join } from 'node:path';
import { SERVICES, type ServiceName } from '@tuneloop/contracts/services';
import { type Local, startLocal } from '@tuneloop/local/local';
import { freePort } from '@tuneloop/local/processes';
import { type ServeChild, spawnServe } from '@tuneloop/responses/serve/child';
import type { Logger } from '@tuneloop/runtime/log';
import { migrate } from '@tuneloop/runtime/migrate';
import { startService } from '@tuneloop/runtime/service';
import type { DataFiles } from './dataFiles.ts';
import { DEFINITIONS, MIGRATION_SETS } from './definitions.ts';
import { startServiceProcess } from './serviceProcess.ts';

const LOOPBACK = '127.0.0.1';
/** Addresses under which loopback answers as well. */
const EVERY_ADDRESS: ReadonlySet<string> = new Set([LOOPBACK, '0.0.0.0', '::', 'localhost']);
/** What answers at the public door is whole; when stopping, the door closes first. */
const DOOR_LAST = SERVICES.toSorted((a, b) => Number(a === 'gateway') - Number(b === 'gateway'));

export interface SystemOptions {
  readonly files: DataFiles;
  /** Of the gateway; 0 for any that is free. */
  readonly port: number;
  /** Where the gateway listens; all else stays on loopback. Default 127.0.0.1. */
  readonly host?: string;
  /** The schema is brought up to date by someone else, as a role that may; this process needs only the services' logins. */
  readonly migrated?: boolean;
  /** What the model server logs goes to this process' own output, as containers want it, instead of a file. */
  readonly logsToOutput?: boolean;
  /** Each service as a process of its own. */
  readonly processes: boolean;
  readonly log: Logger;
  /** Environment that operators set; the embedded parts fill in what is missing. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Base models that the serve process holds: name to folder. */
  readonly models: Readonly<Record<string, string>>;
  readonly onStage?: (stage: string) => void;
}

export interface System {
  readonly gatewayUrl: string;
  readonly urls: Readonly<Record<ServiceName | 'serve', string>>;
  readonly secret: string;
  readonly databaseUrl: string;
  readonly natsUrl: string;
  stop(): Promise<void>;
}

type Stop = () => Promise<void>;

/**
 * Brings up the whole product on one machine: Postgres and NATS (unless their URLs are given), migrations, the serve
 * process, the seven services. What was started stops in reverse when a later step fails, or on `stop`.
 */
export async function startSystem(options: SystemOptions): Promise<System> {
  const stops: Stop[] = [];
  const stop: Stop = async () => {
    while (stops.length > 0) await stops.pop()!();
  };
  try {
    return await assemble(options, stops, stop);
  } catch (error) {
    await stop();
    throw error;
  }
}

async function assemble(options: SystemOptions, stops: Stop[], stop: Stop): Promise<System> {
  const { files, log, env, onStage = () => undefined } = options;
  onStage('Postgres and NATS');
  const local = await startLocal({
    dataDir: files.directory,
    databaseUrl: env.DATABASE_URL,
    natsUrl: env.NATS_URL,
    natsCreds: env.NATS_CREDS,
    natsAccountSeed: env.NATS_ACCOUNT_SEED,
    log,
  });
  stops.push(() => local.stop());
  const secret = env.TUNELOOP_SECRET ?? files.secret();

  if (options.migrated !== true) {
    onStage('migrations');
    await migrate({ adminUrl: local.databaseUrl, secret, sets: MIGRATION_SETS, log });
  }

  const free = await freePorts();
  const ports: Record<ServiceName, number> = { ...free, gateway: options.port === 0 ? free.gateway : options.port };
  const host = options.host ?? LOOPBACK;
  const urls = Object.fromEntries(SERVICES.map((name) => [name, `http://${LOOPBACK}:${ports[name]}`])) as Record<
    ServiceName,
    string
  >;
  if (!EVERY_ADDRESS.has(host)) urls.gateway = `http://${host.includes(':') ? `[${host}]` : host}:${ports.gateway}`;
  const pids: Record<string, { pid: number; url: string }> = {};
  const notePid = (name: string, pid: number, url: string): void => {
    pids[name] = { pid, url };
    files.write('processes.json', JSON.stringify(pids));
  };
  if (local.postgres?.pid !== undefined) notePid('postgres', local.postgres.pid, local.databaseUrl);
  if (local.nats?.pid !== undefined) notePid('nats', local.nats.pid, local.natsUrl);
  const common = commonEnvironment(options, local, secret, urls);

  const models = Object.entries(options.models)
    .map(([name, folder]) => `${name}=${folder}`)
    .join(',');
  onStage('model server');
  const serve: ServeChild = await spawnServe({
    env: {
      ...common,
      HOST: LOOPBACK,
      PORT: '0',
      SERVE_MODELS: models,
    },
    log,
    ...(options.logsToOutput === true ? {} : { logFile: join(files.logs, 'serve.log') }),
  });
  stops.push(() => serve.stop());
  notePid('serve', serve.pid, serve.url);
  // Chunks of documents are counted in tokens of the model that learns from them.
  const full = { ...common, SERVE_URL: serve.url, TOKENIZERS: models };

  onStage('services');
  const startOne = async (name: ServiceName): Promise<void> => {
    const own = { ...full, HOST: name === 'gateway' ? host : LOOPBACK, PORT: String(ports[name]) };
    if (options.processes) {
      const child = await startServiceProcess({
        name,
        main: new URL('main.ts', new URL('src/', new URL('../', DEFINITIONS[name].migrations))),
        env: own,
        logFile: join(files.logs, `${name}.log`),
        log,
        onStart: (pid) => notePid(name, pid, urls[name]),
      });
      stops.push(() => child.stop());
    } else {
      const service = await startService(DEFINITIONS[name], { env: own, log, processMetrics: name === 'gateway' });
      stops.push(() => service.stop());
    }
  };
  // In a process of its own each service takes a second or two to load: together they take as long as two.
  if (options.processes) await settleAll(SERVICES.map((name) => startOne(name)));
  else for (const name of DOOR_LAST) await startOne(name);

  return {
    gatewayUrl: urls.gateway,
    urls: { ...urls, serve: serve.url },
    secret,
    databaseUrl: local.databaseUrl,
    natsUrl: local.natsUrl,
    stop,
  };
}

function commonEnvironment(
  options: SystemOptions,
  local: Local,
  secret: string,
  urls: Readonly<Record<ServiceName, string>>,
): Record<string, string | undefined> {
  return {
    BLOB_STORE: 'local',
    BLOB_DIR: options.files.blobs,
    ...options.env,
    DATABASE_URL: local.databaseUrl,
    NATS_URL: local.natsUrl,
    NATS_CREDS: local.natsCreds,
    NATS_ACCOUNT_SEED: local.natsAccountSeed,
    TUNELOOP_SECRET: secret,
    SERVICE_URLS: JSON.stringify(urls),
    BASE_MODELS: Object.entries(options.models)
      .map(([name, folder]) => `${name}=${folder}`)
      .join(','),
  };
}

async function freePorts(): Promise<Record<ServiceName, number>> {
  const ports = new Set<number>();
  while (ports.size < SERVICES.length) ports.add(await freePort());
  const list = [...ports];
  return Object.fromEntries(SERVICES.map((name, index) => [name, list[index]!])) as Record<ServiceName, number>;
}

/** Waits for all, so that everything that did start is on the list of stops, then throws the first failure. */
async function settleAll(work: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(work);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
}
