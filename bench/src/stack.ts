import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, waitUntil } from '@tuneloop/local/processes';

const CLI = fileURLToPath(new URL('../../apps/cli/src/bin.ts', import.meta.url));
const START_TIMEOUT_MS = 120_000;

export interface BenchStack {
  readonly url: string;
  readonly apiKey: string;
  readonly databaseUrl: string;
  /** Every process of the product, with its name. */
  pids(): Record<string, number>;
  stop(): Promise<void>;
}

/** The product as deployed: every service a process of its own. */
export async function startBenchStack(): Promise<BenchStack> {
  const dataDir = await mkdtemp(join(tmpdir(), 'tuneloop-bench-'));
  await chmod(dataDir, 0o755);
  const port = await freePort();
  const child = spawn(
    process.execPath,
    [CLI, 'start', '--processes', '--empty', '--log-level', 'warn', '--port', String(port), '--data', dataDir],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const ready = await waitUntil(() => child.exitCode !== null || /API key\s+tl_/.test(output), START_TIMEOUT_MS);
  if (!ready || child.exitCode !== null) throw new Error(`the stack did not start:\n${output}`);
  const connections = JSON.parse(readFileSync(join(dataDir, 'connections.json'), 'utf8')) as { database: string };
  return {
    url: `http://127.0.0.1:${port}`,
    apiKey: /API key\s+(tl_\S+)/.exec(output)![1]!,
    databaseUrl: connections.database,
    pids() {
      const stored = JSON.parse(readFileSync(join(dataDir, 'processes.json'), 'utf8')) as Record<
        string,
        { pid: number }
      >;
      return {
        supervisor: child.pid!,
        ...Object.fromEntries(Object.entries(stored).map(([name, { pid }]) => [name, pid])),
      };
    },
    async stop() {
      child.kill('SIGINT');
      if (child.exitCode === null) await once(child, 'exit');
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/** The reference of request rates: a Fastify server that parses the same body and answers at once, in its own process. */
export async function startNoop(): Promise<{ url: string; child: ChildProcess }> {
  const child = fork(new URL('noop.ts', import.meta.url));
  const [message] = (await once(child, 'message')) as [{ url: string }];
  return { url: message.url, child };
}
