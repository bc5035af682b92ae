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
import { join } from 'node:path';
import type { Log } from './log.ts';
import type { RunAs } from './postgresUser.ts';
import { isAlive, stopProcess } from './processes.ts';

/** Major version of the bundled binaries; a data directory of another one cannot be opened. */
const POSTGRES_MAJOR = '18';

export const ADMIN_USER = 'postgres';

/** A fast shutdown writes a checkpoint; on a slow disk that takes seconds. */
const FAST_SHUTDOWN_MS = 20_000;
const IMMEDIATE_SHUTDOWN_MS = 5000;

/** SIGINT ends sessions and checkpoints, SIGQUIT leaves recovery to the next start, SIGKILL is for a hung one. */
export const POSTGRES_STOP_STEPS = [
  { signal: 'SIGINT', waitMs: FAST_SHUTDOWN_MS },
  { signal: 'SIGQUIT', waitMs: IMMEDIATE_SHUTDOWN_MS },
  { signal: 'SIGKILL', waitMs: IMMEDIATE_SHUTDOWN_MS },
] as const;

/**
 * How a whole cluster is brought to disk, after its making and before recovery: one call for the file system where Linux
 * has it, instead of one for each of its thousand files, which takes seconds on a busy disk.
 */
export const SYNC_METHOD = process.platform === 'linux' ? 'syncfs' : 'fsync';

const PARTIAL_PREFIX = 'cluster.new-';

/** The cluster itself, inside the directory that also holds its password and log. */
export function clusterDir(dataDir: string): string {
  return join(dataDir, 'cluster');
}

/** Starts one of Postgres' programs as its user, in a process group that a terminal's Ctrl-C does not reach. */
export function spawnPostgresProgram(
  program: string,
  args: readonly string[],
  options: { runAs: RunAs | undefined; output: 'pipe' | number },
): ChildProcess {
  return spawn(program, args, {
    // Not the current directory: the server's user may be unable to enter it.
    cwd: '/',
    detached: true,
    windowsHide: true,
    stdio: ['ignore', options.output, options.output],
    env: { PATH: process.env['PATH'], LC_ALL: 'C', TZ: 'UTC', SYSTEMROOT: process.env['SYSTEMROOT'] },
    ...(options.runAs === undefined ? {} : { uid: options.runAs.uid, gid: options.runAs.gid }),
  });
}

/**
 * Makes the cluster if there is none, and frees it from what an earlier run left.
 *
 * @throws Error saying what to do about a cluster of another version or owner, or a password that is missing
 */
export async function prepareCluster(options: {
  dataDir: string;
  initdb: string;
  runAs: RunAs | undefined;
  throwaway: boolean;
  log: Log;
}): Promise<{ isNew: boolean; password: string }> {
  const cluster = clusterDir(options.dataDir);
  const passwordFile = join(options.dataDir, 'password');
  if (!existsSync(join(cluster, 'PG_VERSION'))) {
    if (existsSync(cluster)) {
      throw new Error(`${cluster} holds no Postgres cluster. Move it away, or use another data directory.`);
    }
    const password = randomBytes(24).toString('base64url');
    writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
    // The mode above counts only for a new file.
    chmodSync(passwordFile, 0o600);
    await initialise({ ...options, password });
    return { isNew: true, password };
  }
  checkVersion(cluster);
  checkOwner(cluster, options.runAs);
  if (!existsSync(passwordFile)) {
    throw new Error(`${passwordFile} is missing: it is the password of the cluster beside it. Restore both together.`);
  }
  await stopLeftoverPostgres(options.dataDir, options.log);
  return { isNew: false, password: readFileSync(passwordFile, 'utf8').trim() };
}

/** Under a temporary name first, so that a start killed half-way leaves nothing that looks like a cluster. */
async function initialise(options: {
  dataDir: string;
  initdb: string;
  runAs: RunAs | undefined;
  throwaway: boolean;
  password: string;
}): Promise<void> {
  const { dataDir, runAs } = options;
  for (const name of readdirSync(dataDir)) {
    if (name.startsWith(PARTIAL_PREFIX)) rmSync(join(dataDir, name), { recursive: true, force: true });
  }
  const partial = join(dataDir, `${PARTIAL_PREFIX}${process.pid}`);
  const passwordFile = `${partial}.password`;
  mkdirSync(partial, { mode: 0o700 });
  writeFileSync(passwordFile, options.password, { mode: 0o600 });
  if (runAs !== undefined) {
    chownSync(partial, runAs.uid, runAs.gid);
    chownSync(passwordFile, runAs.uid, runAs.gid);
  }
  try {
    await runToEnd(options.initdb, runAs, [
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
      options.throwaway ? '--no-sync' : `--sync-method=${SYNC_METHOD}`,
    ]);
  } finally {
    rmSync(passwordFile, { force: true });
  }
  renameSync(partial, clusterDir(dataDir));
}

async function runToEnd(program: string, runAs: RunAs | undefined, args: readonly string[]): Promise<void> {
  const child = spawnPostgresProgram(program, args, { runAs, output: 'pipe' });
  const output: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => output.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => output.push(chunk));
  await new Promise<void>((done, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) done();
      else
        reject(new Error(`${program} ended with ${code ?? signal}: ${Buffer.concat(output).toString('utf8').trim()}`));
    });
  });
}

function checkVersion(cluster: string): void {
  const major = readFileSync(join(cluster, 'PG_VERSION'), 'utf8').trim();
  if (major === POSTGRES_MAJOR) return;
  throw new Error(
    `${cluster} was made by Postgres ${major}; this version brings Postgres ${POSTGRES_MAJOR}. ` +
      `Dump it with Postgres ${major} and load it into a new data directory.`,
  );
}

function checkOwner(cluster: string, runAs: RunAs | undefined): void {
  const uid = runAs?.uid ?? process.getuid?.();
  const owner = statSync(cluster).uid;
  if (uid === undefined || owner === uid) return;
  if (runAs === undefined) {
    throw new Error(`${cluster} belongs to user id ${owner}; start as that user, or use another data directory.`);
  }
  throw new Error(
    `${cluster} belongs to user id ${owner}, but Postgres runs as "${runAs.name}" when started as root. ` +
      `Start as that user, or hand the directory over: chown -R ${runAs.name} ${cluster}`,
  );
}

/** The lines of postmaster.pid: pid first, status (`ready`) eighth. Undefined when there is none. */
export function readPostmasterPid(cluster: string): string[] | undefined {
  try {
    return readFileSync(join(cluster, 'postmaster.pid'), 'utf8').split('\n');
  } catch {
    return undefined;
  }
}

/** True for a postmaster or backend of this cluster: they work in its directory. */
export function isProcessOf(cluster: string, pid: number): boolean {
  // Elsewhere the pid file's word is taken for it.
  if (process.platform !== 'linux') return true;
  try {
    return readlinkSync(`/proc/${pid}/cwd`) === realpathSync(cluster);
  } catch {
    return false;
  }
}

/** Stops a postmaster that outlived the process that started it (a SIGKILL): its settings and port may be others. */
export async function stopLeftoverPostgres(dataDir: string, log: Log): Promise<void> {
  const cluster = clusterDir(dataDir);
  const lines = readPostmasterPid(cluster);
  const pid = Number(lines?.[0]);
  if (lines === undefined || !Number.isInteger(pid) || pid <= 0 || !isAlive(pid)) return;
  if (isProcessOf(cluster, pid)) {
    log.warn({ pid, dataDir }, 'stopping the Postgres that an earlier run left on this data directory');
    await stopProcess(pid, POSTGRES_STOP_STEPS);
    return;
  }
  // The pid now belongs to an unrelated process, for which Postgres would refuse to start. Naming ourselves, its
  // parent, makes it ignore that line while it still checks the shared memory that the rest of the file names.
  writeFileSync(join(cluster, 'postmaster.pid'), [String(process.pid), ...lines.slice(1)].join('\n'));
}
