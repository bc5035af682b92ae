import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const INSTALL_TIMEOUT_MS = 60_000;
const OUTPUT_BYTES = 16 * 1024 * 1024;

export interface Python {
  readonly path: string;
  /** Whether the wanted package is there; the standard library alone is otherwise. */
  readonly installed: boolean;
}

/**
 * Python with one pinned package, in an environment of its own that is kept between runs. Undefined on a machine
 * without Python; without the package where it cannot be fetched.
 */
export async function findPython(name: string, version: string): Promise<Python | undefined> {
  const system = await run('python3', ['--version']).catch(() => undefined);
  if (!system) return undefined;
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'tuneloop', 'acceptance');
  const folder = join(cache, `${name}-${version}`);
  const path = join(folder, 'bin', 'python');
  const works = (): Promise<boolean> =>
    existsSync(path)
      ? run(path, ['-c', `import ${name}; assert ${name}.__version__ == "${version}"`]).then(
          () => true,
          () => false,
        )
      : Promise.resolve(false);
  if (await works()) return { path, installed: true };
  try {
    await mkdir(cache, { recursive: true });
    await run('python3', ['-m', 'venv', '--clear', folder], { timeout: INSTALL_TIMEOUT_MS });
    await run(path, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', `${name}==${version}`], {
      timeout: INSTALL_TIMEOUT_MS,
    });
  } catch {
    // No network, no venv module: the caller goes on with what the standard library has.
  }
  return (await works()) ? { path, installed: true } : { path: 'python3', installed: false };
}

/** Runs a script to its end and reads the JSON that it prints. @throws with what it wrote, when it fails */
export async function runPython<T>(python: Python, script: string, args: readonly string[]): Promise<T> {
  const { stdout } = await run(python.path, [script, ...args], {
    maxBuffer: OUTPUT_BYTES,
    timeout: INSTALL_TIMEOUT_MS,
  });
  return JSON.parse(stdout) as T;
}
