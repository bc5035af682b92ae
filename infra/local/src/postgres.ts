import type { ChildProcess } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Client, DatabaseError, escapeIdentifier } from 'pg';
import { lockDirectory } from './directoryLock.ts';
import type { Log } from './log.ts';
import {
  ADMIN_USER,
  clusterDir,
  isProcessOf,
  POSTGRES_STOP_STEPS,
  prepareCluster,
  readPostmasterPid,
  spawnPostgresProgram,
  SYNC_METHOD,
} from './postgresCluster.ts';
import { makeTraversable, postgresBinaries, postgresUser, type RunAs, unreachableDirectory } from './postgresUser.ts';
import { errorCode, freePort, isAlive, openChildLog, waitUntil } from './processes.ts';
import { Supervisor } from './supervisor.ts';

/** Recovery after a crash replays up to max_wal_size of log before connections are accepted. */
const READY_TIMEOUT_MS = 120_000;
/** After the postmaster was killed its backends notice within moments, unless one is deep in a query. */
const ORPHANED_BACKENDS_MS = 10_000;
/** Free ports tried when another process takes the one just found. */
const PORT_ATTEMPTS = 5;

const INVALID_PASSWORD = '28P01';
const NO_SUCH_DATABASE = '3D000';

export interface PostgresOptions {
  /** Holds the cluster, its password (0600) and its log. Only one process may use it at a time. */
  dataDir: string;
  /** 0 or absent: a free one. Always on 127.0.0.1. */
  port?: number | undefined;
  /** Created at the first start. Default `tuneloop`. */
  database?: string | undefined;
  /** Bring the server up again, on the same port, whenever it dies. */
  supervise?: boolean | undefined;
  /** For throwaway test clusters: nothing survives a crash, in return for speed. */
  throwaway?: boolean | undefined;
  log: Log;
}

export interface LocalPostgres {
  /** As the superuser of the cluster, password included. */
  readonly url: string;
  readonly port: number;
  /** Of the postmaster; undefined while it is down. */
  readonly pid: number | undefined;
  /** How often supervision brought it up again. */
  readonly restarts: number;
  /** Fast shutdown: open sessions are ended, everything committed is kept. */
  stop(): Promise<void>;
}

/**
 * Starts the bundled Postgres on a data directory, creating the cluster the first time. Resolves once it accepts
 * connections. Nothing in this process stops it before `stop()`, and a Ctrl-C in the terminal does not reach it, so
 * that the services can drain first.
 *
 * @throws DirectoryInUseError when another process runs on this directory; Error with the fix for an unreachable
 * directory, a cluster of another version or owner, a taken port
 */
export async function startPostgres(options: PostgresOptions): Promise<LocalPostgres> {
  const { log, database = 'tuneloop', throwaway = false } = options;
  const dataDir = resolve(options.dataDir);
  makeTraversable(dataDir);
  const lock = lockDirectory(dataDir);
  try {
    const runAs = postgresUser(log);
    checkReachable(dataDir, runAs);
    const binaries = postgresBinaries(runAs, log);
    const { isNew, password } = await prepareCluster({ dataDir, initdb: binaries.initdb, runAs, throwaway, log });
    const { supervisor, port } = await startServer(options, {
      dataDir,
      runAs,
      postgres: binaries.postgres,
      throwaway,
      log,
    });
    const url = (name: string): string => `postgresql://${ADMIN_USER}:${password}@127.0.0.1:${port}/${name}`;
    try {
      if (isNew || !(await databaseExists(url(database), dataDir))) {
        if (database !== 'postgres') await query(url('postgres'), `CREATE DATABASE ${escapeIdentifier(database)}`);
      }
    } catch (error) {
      await supervisor.stop();
      throw error;
    }
    let stopped: Promise<void> | undefined;
    return {
      url: url(database),
      port,
      get pid() {
        return supervisor.pid;
      },
      get restarts() {
        return supervisor.restarts;
      },
      stop() {
        stopped ??= supervisor.stop().finally(() => lock.release());
        return stopped;
      },
    };
  } catch (error) {
    lock.release();
    throw error;
  }
}

function checkReachable(dataDir: string, runAs: RunAs | undefined): void {
  const blocked = unreachableDirectory(dataDir, runAs);
  if (blocked === undefined) return;
  throw new Error(
    `Started as root, Postgres runs as the user "${runAs?.name}", which may not enter ${blocked}. ` +
      'Use a data directory that it can reach (--data /var/lib/tuneloop), start as an ordinary user, or give DATABASE_URL.',
  );
}

interface ServerSpec {
  dataDir: string;
  runAs: RunAs | undefined;
  postgres: string;
  throwaway: boolean;
  log: Log;
}

async function startServer(
  options: PostgresOptions,
  spec: ServerSpec,
): Promise<{ supervisor: Supervisor; port: number }> {
  const wanted = options.port ?? 0;
  for (let attempt = 1; ; attempt += 1) {
    const port = wanted === 0 ? await freePort() : wanted;
    try {
      const supervisor = await Supervisor.start(
        {
          name: 'postgres',
          launch: () => launch(spec, port),
          stopSteps: POSTGRES_STOP_STEPS,
        },
        { restart: options.supervise ?? false, log: spec.log },
      );
      return { supervisor, port };
    } catch (error) {
      const isTaken = error instanceof Error && /could not bind|Address already in use/.test(error.message);
      if (isTaken && wanted !== 0) {
        throw new Error(`Port ${wanted} on 127.0.0.1 is taken; give Postgres another one.`, { cause: error });
      }
      if (!isTaken || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}

/** Waits out, then ends, backends that outlived a killed postmaster: starting beside them would corrupt the cluster. */
async function launch(spec: ServerSpec, port: number): Promise<ChildProcess> {
  const deadline = performance.now() + ORPHANED_BACKENDS_MS;
  for (;;) {
    try {
      return await launchOnce(spec, port);
    } catch (error) {
      const isHeld = error instanceof Error && error.message.includes('pre-existing shared memory block');
      if (!isHeld || performance.now() > deadline) throw error;
      const cluster = clusterDir(spec.dataDir);
      for (const pid of processesOf(cluster)) quit(pid);
      await waitUntil(() => processesOf(cluster).length === 0, ORPHANED_BACKENDS_MS);
    }
  }
}

async function launchOnce(spec: ServerSpec, port: number): Promise<ChildProcess> {
  const cluster = clusterDir(spec.dataDir);
  const logFile = openChildLog(join(spec.dataDir, 'postgres.log'));
  try {
    const args = ['-D', cluster, '-p', String(port), ...settings(spec.throwaway).flatMap((setting) => ['-c', setting])];
    const child = spawnPostgresProgram(spec.postgres, args, { runAs: spec.runAs, output: logFile.fd });
    let failure: Error | undefined;
    child.on('error', (error) => {
      failure = error;
    });
    const isReady = (): boolean => {
      const lines = readPostmasterPid(cluster);
      return Number(lines?.[0]) === child.pid && lines?.[7]?.trim() === 'ready';
    };
    const hasEnded = (): boolean => failure !== undefined || child.exitCode !== null || child.signalCode !== null;
    await waitUntil(() => hasEnded() || isReady(), READY_TIMEOUT_MS);
    if (hasEnded()) {
      throw new Error(`Postgres did not start: ${failure?.message ?? logFile.tail()}`, { cause: failure });
    }
    if (!isReady()) {
      child.kill('SIGQUIT');
      throw new Error(`Postgres was not ready after ${READY_TIMEOUT_MS / 1000} s: ${logFile.tail()}`);
    }
    return child;
  } finally {
    logFile.close();
  }
}

function processesOf(cluster: string): number[] {
  if (process.platform !== 'linux') return [];
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && isProcessOf(cluster, pid) && isAlive(pid));
}

function quit(pid: number): void {
  try {
    process.kill(pid, 'SIGQUIT');
  } catch (error) {
    // Gone between the listing and the signal.
    if (errorCode(error) !== 'ESRCH') throw error;
  }
}

async function databaseExists(url: string, dataDir: string): Promise<boolean> {
  try {
    await query(url, 'SELECT 1');
    return true;
  } catch (error) {
    const code = error instanceof DatabaseError ? error.code : undefined;
    if (code === NO_SUCH_DATABASE) return false;
    if (code !== INVALID_PASSWORD) throw error;
    throw new Error(
      `${join(dataDir, 'password')} is not the password of the cluster beside it. Restore both together.`,
      { cause: error },
    );
  }
}

async function query(url: string, text: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(text);
  } finally {
    await client.end();
  }
}

/** Sized for a laptop or a small server that runs all of Tuneloop beside it. */
function settings(throwaway: boolean): string[] {
  const durable = ['fsync=on', 'synchronous_commit=on', 'max_wal_size=1GB', `recovery_init_sync_method=${SYNC_METHOD}`];
  const fast = [
    'fsync=off',
    'synchronous_commit=off',
    'full_page_writes=off',
    'wal_level=minimal',
    'max_wal_senders=0',
  ];
  return [
    'listen_addresses=127.0.0.1',
    'unix_socket_directories=',
    'max_connections=200',
    'shared_buffers=128MB',
    'timezone=UTC',
    'log_timezone=UTC',
    // Refused statements are the services' to log; the server's log is for what happens to the server.
    'log_min_messages=log',
    'log_checkpoints=off',
    // Parallel plans share memory through /dev/shm, of which containers have 64 MB.
    'max_parallel_workers_per_gather=0',
    'max_parallel_maintenance_workers=0',
    // Compiling plans costs more than it gains on short queries.
    'jit=off',
    // No I/O worker processes: the data fits the page cache.
    'io_method=sync',
    ...(throwaway ? fast : durable),
  ];
}
