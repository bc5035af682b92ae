import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Logger } from '@tuneloop/runtime/log';

const CONSOLE = join(import.meta.dirname, '../../../console');
const DIST = join(CONSOLE, 'dist');
/** What the build is made from, besides the packages that package.json names by exact version. */
const SOURCES = ['index.html', 'package.json', 'vite.config.ts', 'public', 'src'];
/** Lies in the build and says what it was made from. */
const STAMP = '.sources';
/** The gateway may run as somebody else. */
const PUBLIC_FOLDER = 0o755;
const BUILD_TIMEOUT_MS = 120_000;

/**
 * The folder of the built console, for the gateway's CONSOLE_DIR. Builds it first when the sources have changed since,
 * which takes a few seconds; otherwise only reads them. Where it cannot be built (no build tools, a read-only folder)
 * the last build is served, and without one undefined is returned: everything else works without a console.
 */
export async function ensureConsole({ log }: { readonly log: Logger }): Promise<string | undefined> {
  try {
    const hash = await hashOfSources();
    if ((await stampOf(DIST)) !== hash) await build(hash);
    return DIST;
  } catch (error) {
    const served = existsSync(join(DIST, 'index.html'));
    log.warn({ err: error }, served ? 'the console could not be built again; the last build is served' : 'no console');
    return served ? DIST : undefined;
  }
}

async function hashOfSources(): Promise<string> {
  const hash = createHash('sha256').update(process.versions.node.split('.')[0] ?? '');
  for (const source of SOURCES) {
    for (const file of await filesOf(source)) {
      hash.update(`${file}\0`).update(await readFile(join(CONSOLE, file)));
    }
  }
  return hash.digest('hex');
}

async function filesOf(source: string): Promise<string[]> {
  const folder = join(CONSOLE, source);
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => undefined);
  if (!entries) return [source];
  return entries
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.test.ts'))
    .map((entry) => join(entry.parentPath, entry.name).slice(CONSOLE.length + 1))
    .toSorted();
}

async function stampOf(folder: string): Promise<string | undefined> {
  return readFile(join(folder, STAMP), 'utf8').catch(() => undefined);
}

/** Builds aside, then takes the old build's place: a gateway that is serving it never sees half of one. */
async function build(hash: string): Promise<void> {
  const vite = join(createRequire(join(CONSOLE, 'package.json')).resolve('vite/package.json'), '../bin/vite.js');
  const fresh = await mkdtemp(join(CONSOLE, 'node_modules', '.dist-'));
  try {
    await promisify(execFile)(
      process.execPath,
      [vite, 'build', '--outDir', fresh, '--emptyOutDir', '--logLevel', 'error'],
      { cwd: CONSOLE, timeout: BUILD_TIMEOUT_MS, env: { ...process.env, NODE_ENV: 'production' } },
    );
    await writeFile(join(fresh, STAMP), hash);
    await chmod(fresh, PUBLIC_FOLDER);
    await rm(DIST, { recursive: true, force: true });
    await rename(fresh, DIST);
  } catch (error) {
    // Another start may have been faster.
    if ((await stampOf(DIST)) !== hash) throw error;
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}
