import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, waitUntil } from '@tuneloop/local/processes';

const CLI = fileURLToPath(new URL('../../apps/cli/src/bin.ts', import.meta.url));
const START_TIMEOUT_MS = 120_000;
const STOP_TIMEOUT_MS = 60_000;

export interface StackOptions {
  /** Flags of `tuneloop start` beside port and data directory. */
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Kept after `stop` when given. */
  readonly dataDir?: string;
}

/** The running product, started as a person would start it. */
export interface Stack {
  readonly url: string;
  readonly apiKey: string;
  readonly dataDir: string;
  readonly databaseUrl: string;
  readonly natsUrl: string;
  /** What the terminal showed so far. */
  output(): string;
  /** Process ids by name: services, `serve`, `postgres`, `nats`. */
  pids(): Readonly<Record<string, { pid: number; url: string }>>;
  /** Ctrl-C, then waits for the orderly end. Gives the exit status. */
  stop(): Promise<number | null>;
}

/** Runs `tuneloop start` on a free port and resolves once it says that it is ready. */
export async function startStack(options: StackOptions = {}): Promise<Stack> {
  const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), 'tuneloop-acceptance-')));
  await mkdir(dataDir, { recursive: true });
  // Postgres runs as another user when this runs as root.
  await chmod(dataDir, 0o755);
  const port = await freePort();
  const child = spawn(
    process.execPath,
    [CLI, 'start', '--port', String(port), '--data', dataDir, ...(options.flags ?? [])],
    { env: { ...process.env, ...options.env }, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const ready = await waitUntil(() => child.exitCode !== null || /API key\s+tl_/.test(output), START_TIMEOUT_MS);
  if (!ready || child.exitCode !== null) {
    child.kill('SIGKILL');
    throw new Error(`the stack did not start (status ${child.exitCode}):\n${output}`);
  }
  const connections = JSON.parse(readFileSync(join(dataDir, 'connections.json'), 'utf8')) as {
    database: string;
    nats: string;
  };
  return {
    url: `http://127.0.0.1:${port}`,
    apiKey: /API key\s+(tl_\S+)/.exec(output)![1]!,
    dataDir,
    databaseUrl: connections.database,
    natsUrl: connections.nats,
    output: () => output,
    pids: () => readPids(dataDir),
    async stop() {
      await stopChild(child);
      if (options.dataDir === undefined) await rm(dataDir, { recursive: true, force: true });
      return child.exitCode;
    },
  };
}

function readPids(dataDir: string): Readonly<Record<string, { pid: number; url: string }>> {
  const file = join(dataDir, 'processes.json');
  if (!existsSync(file)) return {};
  return JSON.parse(readFileSync(file, 'utf8')) as Record<string, { pid: number; url: string }>;
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  child.kill('SIGINT');
  if (!(await waitUntil(() => child.exitCode !== null, STOP_TIMEOUT_MS))) child.kill('SIGKILL');
}

/** One run of the CLI to its end. */
export async function runCli(
  args: readonly string[],
  options: { readonly env?: Readonly<Record<string, string>>; readonly timeoutMs?: number } = {},
): Promise<{ readonly status: number | null; readonly output: string }> {
  const child = spawn(process.execPath, [CLI, ...args], {
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs }),
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  return { status, output };
}
