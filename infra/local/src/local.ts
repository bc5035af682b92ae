import { join, resolve } from 'node:path';
import { lockDirectory } from './directoryLock.ts';
import type { Log } from './log.ts';
import { type LocalNats, startNats } from './nats.ts';
import { type LocalPostgres, startPostgres } from './postgres.ts';
import { makeTraversable } from './postgresUser.ts';

export interface LocalOptions {
  /** One directory for everything; the services may keep their blobs beside. Only one process may use it at a time. */
  dataDir: string;
  /** An existing Postgres: none is started. */
  databaseUrl?: string | undefined;
  /** An existing NATS with JetStream: none is started. */
  natsUrl?: string | undefined;
  /** Text of a `.creds` file for `natsUrl`, when that server wants one. */
  natsCreds?: string | undefined;
  /** Seed that signs outside publishers on `natsUrl`; without it per-project NATS credentials are not offered. */
  natsAccountSeed?: string | undefined;
  postgresPort?: number | undefined;
  natsPort?: number | undefined;
  /** Bring either up again whenever it dies. Default true. */
  supervise?: boolean | undefined;
  /** Where a fetched nats-server is kept; default `$XDG_CACHE_HOME/tuneloop`. */
  cacheDir?: string | undefined;
  log: Log;
}

export interface Local {
  databaseUrl: string;
  natsUrl: string;
  natsCreds: string | undefined;
  natsAccountSeed: string | undefined;
  /** Undefined when it was given by URL. */
  postgres: LocalPostgres | undefined;
  nats: LocalNats | undefined;
  /** Stops what was started here and frees the data directory. Call it after the services have drained. */
  stop(): Promise<void>;
}

/**
 * Brings up what the services stand on, each part replaced by a server that is already there when its URL is given.
 *
 * @throws DirectoryInUseError naming the process that already runs on the data directory
 */
export async function startLocal(options: LocalOptions): Promise<Local> {
  const { log, supervise = true } = options;
  const dataDir = resolve(options.dataDir);
  makeTraversable(dataDir);
  const lock = lockDirectory(dataDir);
  const [postgres, nats] = await Promise.allSettled([
    options.databaseUrl === undefined
      ? startPostgres({ dataDir: join(dataDir, 'postgres'), port: options.postgresPort, supervise, log })
      : undefined,
    options.natsUrl === undefined
      ? startNats({
          storeDir: join(dataDir, 'nats'),
          port: options.natsPort,
          supervise,
          cacheDir: options.cacheDir,
          log,
        })
      : undefined,
  ]);
  const startedPostgres = postgres.status === 'fulfilled' ? postgres.value : undefined;
  const startedNats = nats.status === 'fulfilled' ? nats.value : undefined;
  const stopAll = async (): Promise<void> => {
    try {
      // The bus first: nothing reaches the database any more when it goes.
      await startedNats?.stop();
    } finally {
      try {
        await startedPostgres?.stop();
      } finally {
        lock.release();
      }
    }
  };
  const failed = [postgres, nats].find((result) => result.status === 'rejected');
  if (failed !== undefined) {
    await stopAll();
    throw failed.reason;
  }
  const databaseUrl = options.databaseUrl ?? startedPostgres?.url;
  const natsUrl = options.natsUrl ?? startedNats?.url;
  if (databaseUrl === undefined || natsUrl === undefined) throw new Error('unreachable: each part is given or started');
  let stopped: Promise<void> | undefined;
  return {
    databaseUrl,
    natsUrl,
    natsCreds: startedNats?.serviceCreds ?? options.natsCreds,
    natsAccountSeed: startedNats?.accountSigningSeed ?? options.natsAccountSeed,
    postgres: startedPostgres,
    nats: startedNats,
    stop() {
      stopped ??= stopAll();
      return stopped;
    },
  };
}
