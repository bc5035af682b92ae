import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import pg from 'pg';
import { lockDirectory } from './directoryLock.ts';
import type { Log } from './log.ts';
import { freePort, isAlive, openChildLog, stopProcess, waitUntil } from './processes.ts';
import {
  type PostgresBinaries,
  postgresBinaries,
  postgresUser,
  type RunAs,
  unreachableDirectory,
} from './postgresUser.ts';
import { Supervisor } from './supervisor.ts';

/** Major version of the bundled binaries; a data directory of another one cannot be opened. */
const POSTGRES_MAJOR = '18';

const ADMIN_USER = 'postgres';
const READY_TIMEOUT_MS = 60_000;
/** A fast shutdown writes a checkpoint; on a slow disk that takes seconds. */
const FAST_SHUTDOWN_MS = 20_000;
const IMMEDIATE_SHUTDOWN_MS = 5000;
/** After the postmaster was killed its backends notice within moments, unless one is deep in a query. */
const ORPHANED_BACKENDS_MS = 10_000;
/** Free ports tried when another process takes the one just found. */
const PORT_ATTEMPTS = 5;

/** SIGINT ends sessions and checkpoints, SIGQUIT leaves recovery to the next start, SIGKILL is for a hung one. */
const STOP_STEPS = [
  { signal: 'SIGINT', waitMs: FAST_SHUTDOWN_MS },
  { signal: 'SIGQUIT', waitMs: IMMEDIATE_SHUTDOWN_MS },
  { signal: 'SIGKILL', waitMs: IMMEDIATE_SHUTDOWN_MS },
] as const;

export interface PostgresOptions {
  /** Holds the cluster, its password (0600) and its log. Only one process may use it at a time. */
  dataDir: string;
  /** 0 or absent: a free one. Always on 127.0.0.1. */
  port?: number | undefined;
  /** Created at the first start. */
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
 * connections. Nothing in this process stops it before `stop()`: a Ctrl-C in the terminal does not reach it, so the
 * services can drain first.
 *
 * @throws DirectoryInUseError when another process runs on this directory; Error with the fix for an unreachable
 * directory, a cluster of another major version, a taken port
 */
export async function startPostgres(options: PostgresOptions): Promise<LocalPostgres> {
  const { log, database = 'tuneloop' } = options;
  const dataDir = resolve(options.dataDir);
  mkdirSync(dataDir, { recursive: true });
  const lock = lockDirectory(dataDir);
  try {
    const runAs = postgresUser(log);
    const blocked = unreachableDirectory(dataDir, runAs);
    if (blocked !== undefined) {
      throw new Error(
        `Started as root, Postgres runs as the user "${runAs?.name}", which may not enter ${blocked}. ` +
          'Use a data directory that it can reach (--data /var/lib/tuneloop), start as an ordinary user, or give DATABASE_URL.',
      );
    }
    const cluster = new Cluster(dataDir, postgresBinaries(runAs, log), runAs, options);
    const isNew = await cluster.prepare();
    const supervisor = await cluster.start();
    const url = cluster.url(database);
    try {
      if (isNew || !(await cluster.accepts(database))) await cluster.createDatabase(database);
    } catch (error) {
      await supervisor.stop();
      throw error;
    }
    let stopped: Promise<void> | undefined;
    return {
      url,
      port: cluster.port,
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

class Cluster {
  readonly #dir: string;
  readonly #pgData: string;
  readonly #binaries: PostgresBinaries;
  readonly #runAs: RunAs | undefined;
  readonly #options: PostgresOptions;
  readonly #log: Log;
  #password = '';
  port = 0;

  constructor(dir: string, binaries: PostgresBinaries, runAs: RunAs | undefined, options: PostgresOptions) {
    this.#dir = dir;
    this.#pgData = join(dir, 'cluster');
    this.#binaries = binaries;
    this.#runAs = runAs;
    this.#options = options;
    this.#log = options.log;
  }

  url(database: string): string {
    return `postgresql://${ADMIN_USER}:${this.#password}@127.0.0.1:${this.port}/${database}`;
  }

  /** Makes the cluster if there is none, and frees it from what an earlier run left. Returns whether it is new. */
  async prepare(): Promise<boolean> {
    const passwordFile = join(this.#dir, 'password');
    const versionFile = join(this.#pgData, 'PG_VERSION');
    if (existsSync(versionFile)) {
      const major = readFileSync(versionFile, 'utf8').trim();
      if (major !== POSTGRES_MAJOR) {
        throw new Error(
          `${this.#pgData} was made by Postgres ${major}; this version brings Postgres ${POSTGRES_MAJOR}. ` +
            `Dump it with Postgres ${major} and load it into a new data directory.`,
        );
      }
      if (!existsSync(passwordFile)) {
        throw new Error(
          `${passwordFile} is missing: it holds the password of the cluster beside it. Restore both together.`,
        );
      }
      this.#password = readFileSync(passwordFile, 'utf8').trim();
      this.#checkOwner();
      await this.#stopLeftover();
      return false;
    }
    if (existsSync(this.#pgData) && readdirSync(this.#pgData).length > 0) {
      throw new Error(
        `${this.#pgData} holds files but no Postgres cluster. Move them away, or use another data directory.`,
      );
    }
    this.#password = randomBytes(24).toString('base64url');
    writeFileSync(passwordFile, `${this.#password}\n`, { mode: 0o600 });
    chmodSync(passwordFile, 0o600);
    await this.#initialise();
    return true;
  }

  /** Under a temporary name first, so that a start killed half-way leaves nothing that looks like a cluster. */
  async #initialise(): Promise<void> {
    for (const name of readdirSync(this.#dir)) {
      if (name.startsWith('cluster.new-')) rmSync(join(this.#dir, name), { recursive: true, force: true });
    }
    const partial = join(this.#dir, `cluster.new-${process.pid}`);
    mkdirSync(partial, { mode: 0o700 });
    const passwordFile = join(this.#dir, `cluster.new-${process.pid}.password`);
    writeFileSync(passwordFile, this.#password, { mode: 0o600 });
    if (this.#runAs !== undefined) {
      chownSync(partial, this.#runAs.uid, this.#runAs.gid);
      chownSync(passwordFile, this.#runAs.uid, this.#runAs.gid);
    }
    try {
      await this.#run(this.#binaries.initdb, [
        `--pgdata=${partial}`,
        `--username=${ADMIN_USER}`,
        `--pwfile=${passwordFile}`,
        '--auth=scram-sha-256',
        '--encoding=UTF8',
        // Postgres' own UTF-8 rules: the same order on every machine, whatever locales it has installed.
        '--locale=C',
        '--locale-provider=builtin',
        '--builtin-locale=C.UTF-8',
        '--no-instructions',
        ...(this.#options.throwaway === true ? ['--no-sync'] : []),
      ]);
    } finally {
      rmSync(passwordFile, { force: true });
    }
    renameSync(partial, this.#pgData);
  }

  async #run(program: string, args: string[]): Promise<void> {
    const child = this.#spawn(program, args, 'pipe');
    const output: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => output.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => output.push(chunk));
    await new Promise<void>((done, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => {
        if (code === 0) done();
        else
          reject(
            new Error(`${program} ended with ${code ?? signal}: ${Buffer.concat(output).toString('utf8').trim()}`),
          );
      });
    });
  }

  #spawn(program: string, args: string[], output: 'pipe' | number): ChildProcess {
    return spawn(program, args, {
      // Not this directory: the server's user may be unable to enter it.
      cwd: dirname(this.#dir),
      // A process group of its own, so that a terminal's Ctrl-C reaches only the services.
      detached: true,
      windowsHide: true,
      stdio: ['ignore', output, output],
      env: { PATH: process.env['PATH'], LC_ALL: 'C', TZ: 'UTC', SYSTEMROOT: process.env['SYSTEMROOT'] },
      ...(this.#runAs === undefined ? {} : { uid: this.#runAs.uid, gid: this.#runAs.gid }),
    });
  }

  #checkOwner(): void {
    const uid = this.#runAs?.uid ?? process.getuid?.();
    const owner = statSync(this.#pgData).uid;
    if (uid === undefined || owner === uid) return;
    if (this.#runAs !== undefined) {
      throw new Error(
        `${this.#pgData} belongs to user id ${owner}, but Postgres runs as "${this.#runAs.name}" when started as root. ` +
          `Start as that user, or hand the directory over: chown -R ${this.#runAs.name} ${this.#pgData}`,
      );
    }
    throw new Error(`${this.#pgData} belongs to user id ${owner}; start as that user, or use another data directory.`);
  }

  /** Stops a postmaster that outlived the process that started it (a SIGKILL): its settings and port may be others. */
  async #stopLeftover(): Promise<void> {
    const lines = this.#postmasterPid();
    const pid = Number(lines?.[0]);
    if (lines === undefined || !Number.isInteger(pid) || pid <= 0 || !isAlive(pid)) return;
    if (this.#isOurPostmaster(pid)) {
      this.#log.warn(
        { pid, dataDir: this.#dir },
        'stopping the Postgres that an earlier run left on this data directory',
      );
      await stopProcess(pid, STOP_STEPS);
      return;
    }
    // The pid now belongs to an unrelated process, for which Postgres would refuse to start. Naming ourselves, its
    // parent, makes it ignore that line while it still checks the shared memory that the rest of the file names.
    writeFileSync(join(this.#pgData, 'postmaster.pid'), [String(process.pid), ...lines.slice(1)].join('\n'));
  }

  #postmasterPid(): string[] | undefined {
    try {
      return readFileSync(join(this.#pgData, 'postmaster.pid'), 'utf8').split('\n');
    } catch {
      return undefined;
    }
  }

  /** A postmaster's and its backends' working directory is the cluster. */
  #isOurPostmaster(pid: number): boolean {
    if (process.platform !== 'linux') return true;
    try {
      return readlinkSync(`/proc/${pid}/cwd`) === realpathSync(this.#pgData);
    } catch {
      return false;
    }
  }

  async start(): Promise<Supervisor> {
    const wanted = this.#options.port ?? 0;
    for (let attempt = 1; ; attempt += 1) {
      this.port = wanted === 0 ? await freePort() : wanted;
      try {
        return await Supervisor.start(
          {
            name: 'postgres',
            launch: () => this.#launch(),
            shutDown: async (child) => {
              if (child.pid !== undefined) await stopProcess(child.pid, STOP_STEPS);
            },
            exitSignal: 'SIGINT',
          },
          { restart: this.#options.supervise ?? false, log: this.#log },
        );
      } catch (error) {
        const isTaken = error instanceof Error && /could not bind|Address already in use/.test(error.message);
        if (isTaken && wanted !== 0)
          throw new Error(`Port ${wanted} on 127.0.0.1 is taken; give Postgres another one.`, { cause: error });
        if (!isTaken || attempt === PORT_ATTEMPTS) throw error;
      }
    }
  }

  async #launch(): Promise<ChildProcess> {
    const deadline = performance.now() + ORPHANED_BACKENDS_MS;
    for (;;) {
      try {
        return await this.#launchOnce();
      } catch (error) {
        // Backends of a killed postmaster still hold its shared memory: starting over them would corrupt the cluster.
        if (!(error instanceof Error) || !error.message.includes('pre-existing shared memory block')) throw error;
        if (performance.now() > deadline) throw error;
        this.#killOrphanedBackends();
        await waitUntil(() => this.#backends().length === 0, ORPHANED_BACKENDS_MS);
      }
    }
  }

  async #launchOnce(): Promise<ChildProcess> {
    const logFile = openChildLog(join(this.#dir, 'postgres.log'));
    try {
      const child = this.#spawn(
        this.#binaries.postgres,
        [
          '-D',
          this.#pgData,
          '-p',
          String(this.port),
          ...settings(this.#options.throwaway ?? false).flatMap((setting) => ['-c', setting]),
        ],
        logFile.fd,
      );
      let failure: Error | undefined;
      child.on('error', (error) => {
        failure = error;
      });
      const isReady = (): boolean => {
        const lines = this.#postmasterPid();
        return Number(lines?.[0]) === child.pid && lines?.[7]?.trim() === 'ready';
      };
      const hasEnded = (): boolean => failure !== undefined || child.exitCode !== null || child.signalCode !== null;
      await waitUntil(() => hasEnded() || isReady(), READY_TIMEOUT_MS);
      if (hasEnded()) {
        throw new Error(`Postgres did not start: ${failure?.message ?? logFile.tail()}`, { cause: failure });
      }
      if (!isReady()) {
        child.kill('SIGKILL');
        throw new Error(`Postgres was not ready after ${READY_TIMEOUT_MS / 1000} s: ${logFile.tail()}`);
      }
      return child;
    } finally {
      logFile.close();
    }
  }

  #backends(): number[] {
    if (process.platform !== 'linux') return [];
    return readdirSync('/proc')
      .map(Number)
      .filter((pid) => Number.isInteger(pid) && this.#isOurPostmaster(pid) && isAlive(pid));
  }

  #killOrphanedBackends(): void {
    for (const pid of this.#backends()) {
      try {
        process.kill(pid, 'SIGQUIT');
      } catch {
        // Gone between the listing and the signal.
      }
    }
  }

  async accepts(database: string): Promise<boolean> {
    try {
      await this.#query(database, 'SELECT 1');
      return true;
    } catch (error) {
      const code = error instanceof pg.DatabaseError ? error.code : undefined;
      if (code === '3D000') return false;
      if (code === '28P01') {
        throw new Error(
          `${join(this.#dir, 'password')} is not the password of the cluster beside it. Restore both together.`,
          { cause: error },
        );
      }
      throw error;
    }
  }

  async createDatabase(database: string): Promise<void> {
    await this.#query('postgres', `CREATE DATABASE ${pg.escapeIdentifier(database)}`);
  }

  async #query(database: string, text: string): Promise<void> {
    const client = new pg.Client({ connectionString: this.url(database) });
    client.on('error', (error) => this.#log.debug({ err: error }, 'connection lost'));
    await client.connect();
    try {
      await client.query(text);
    } finally {
      await client.end();
    }
  }
}

/** Sized for a laptop or a small server that runs all of Tuneloop beside it. */
function settings(throwaway: boolean): string[] {
  const durable = ['fsync=on', 'synchronous_commit=on', 'max_wal_size=1GB'];
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
