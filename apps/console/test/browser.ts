import { execFile } from 'node:child_process';
import { access, constants, readFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { type Browser, chromium } from 'playwright-core';

const run = promisify(execFile);

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome'];
const INSTALL_TIMEOUT_MS = 240_000;

/** Set on machines that can have no browser: the tests that need one are then left out, and say so. */
export const NO_BROWSER = process.env.TUNELOOP_NO_BROWSER === '1';

/**
 * Starts Chromium: TUNELOOP_CHROMIUM, else from the PATH, else installed with apt-get where this is root on Debian.
 * @throws when there is none, telling how to get one or do without.
 */
export async function launchBrowser(): Promise<Browser> {
  const executablePath = process.env.TUNELOOP_CHROMIUM ?? (await onPath()) ?? (await installed());
  if (executablePath === undefined) {
    throw new Error(
      'The console is tested in Chromium, and there is none. Install it ("apt-get install chromium" on Debian), name it ' +
        'in TUNELOOP_CHROMIUM, or set TUNELOOP_NO_BROWSER=1 to leave these tests out.',
    );
  }
  return chromium.launch({
    executablePath,
    // Root, as in containers, cannot use the sandbox; and their /dev/shm is small.
    args: ['--disable-dev-shm-usage', ...(process.getuid?.() === 0 ? ['--no-sandbox'] : [])],
  });
}

async function onPath(): Promise<string | undefined> {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    for (const name of NAMES) {
      const file = join(folder, name);
      if (folder !== '' && (await isProgram(file))) return file;
    }
  }
  return undefined;
}

async function isProgram(file: string): Promise<boolean> {
  return access(file, constants.X_OK).then(
    () => true,
    () => false,
  );
}

async function installed(): Promise<string | undefined> {
  const release = await readFile('/etc/os-release', 'utf8').catch(() => '');
  if (process.getuid?.() !== 0 || !/^ID(?:_LIKE)?=.*debian/m.test(release)) return undefined;
  const options = { timeout: INSTALL_TIMEOUT_MS, env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } };
  await run('apt-get', ['update', '-qq'], options);
  await run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', 'chromium'], options);
  return onPath();
}
