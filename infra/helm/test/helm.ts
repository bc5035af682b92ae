import { execFile } from 'node:child_process';
import { accessSync, constants, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { defaultCacheDir } from '@tuneloop/local/natsBinary';
import { parseAllDocuments } from 'yaml';
import type { Manifest } from './strictManifest.ts';

const run = promisify(execFile);

/** What is built when there is none; the module's checksum database vouches for it. */
const HELM_MODULE = 'helm.sh/helm/v4/cmd/helm@v4.3.1';
/** Four minutes on two cores. */
const BUILD_TIMEOUT_MS = 1_200_000;
const RENDER_TIMEOUT_MS = 60_000;
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;
const CHART = fileURLToPath(new URL('../tuneloop/', import.meta.url));

/**
 * Finds helm: PATH, then the cache, then `go install` into the cache.
 * @throws Error that says how to get it
 */
export async function resolveHelm(): Promise<string> {
  const cache = join(defaultCacheDir(), 'helm');
  for (const folder of [...(process.env.PATH ?? '').split(delimiter), cache]) {
    const file = join(folder, 'helm');
    if (folder !== '' && isExecutable(file)) return file;
  }
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, 'build-'));
  try {
    await run('go', ['install', HELM_MODULE], {
      timeout: BUILD_TIMEOUT_MS,
      env: { ...process.env, GOBIN: work, GOFLAGS: '-trimpath', CGO_ENABLED: '0' },
    });
    renameSync(join(work, 'helm'), join(cache, 'helm'));
    return join(cache, 'helm');
  } catch (error) {
    throw new Error('There is no helm, and it could not be built with go: put helm 3 or 4 on PATH.', { cause: error });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Values that have no default. */
const REQUIRED_VALUES = {
  'image.repository': 'registry.example.com/tuneloop',
  'secret.existingSecret': 'tuneloop',
  'database.existingSecret': 'tuneloop-postgres',
  'nats.url': 'tls://nats.example.com:4222',
  'blobs.s3.bucket': 'tuneloop',
} as const;

/**
 * Renders the chart as release `r`.
 * @throws Error with what helm said
 */
export async function render(helm: string, values: Readonly<Record<string, unknown>> = {}): Promise<Manifest[]> {
  const settings = Object.entries({ ...REQUIRED_VALUES, ...values }).flatMap(([path, value]) => [
    '--set-json',
    `${path}=${JSON.stringify(value)}`,
  ]);
  const { stdout } = await run(helm, ['template', 'r', CHART, '--namespace', 'n', ...settings], {
    timeout: RENDER_TIMEOUT_MS,
    maxBuffer: MAX_OUTPUT_BYTES,
  });
  return parseAllDocuments(stdout, { uniqueKeys: true }).flatMap((document) => {
    if (document.errors.length > 0) throw document.errors[0]!;
    const value = document.toJS() as Manifest | null;
    return value === null ? [] : [value];
  });
}
