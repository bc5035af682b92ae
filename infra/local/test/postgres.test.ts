import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLog } from '@tuneloop/local/log';
import { type PostgresOptions, startPostgres } from '@tuneloop/local/postgres';
import { waitUntil } from '@tuneloop/local/processes';
import { Client } from 'pg';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { temporaryDirectory } from './temporaryDirectory.ts';

/** Made once: a copy takes a tenth of the time that making a cluster takes. */
const original = mkdtempSync(join(tmpdir(), 'tuneloop-local-'));

beforeAll(async () => {
  chmodSync(original, 0o755);
  const postgres = await startPostgres({ dataDir: original, throwaway: true, log: silentLog });
  await postgres.stop();
});

afterAll(() => rmSync(original, { recursive: true, force: true }));

/** A data directory with a cluster in it, owners and all. */
function clusterDirectory(): string {
  const directory = temporaryDirectory();
  execFileSync('cp', ['-a', `${original}/.`, directory]);
  return directory;
}

async function start(options: Omit<PostgresOptions, 'log'>) {
  const postgres = await startPostgres({ ...options, log: silentLog });
  onTestFinished(() => postgres.stop());
  return postgres;
}

async function query(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(text)).rows;
  } finally {
    await client.end();
  }
}

test('a cluster keeps its data, password and UTF-8 between starts, and listens on loopback only', async () => {
  const dataDir = temporaryDirectory();
  const first = await start({ dataDir });
  await query(first.url, "CREATE TABLE t AS SELECT 'zürich'::text AS v");
  const [settings] = await query(
    first.url,
    "SELECT current_setting('listen_addresses') AS listen, current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS sync, current_setting('server_encoding') AS encoding, current_setting('max_connections') AS connections",
  );
  expect(settings).toEqual({ listen: '127.0.0.1', fsync: 'on', sync: 'on', encoding: 'UTF8', connections: '200' });
  expect(statSync(join(dataDir, 'password')).mode & 0o777).toBe(0o600);
  await first.stop();

  const second = await start({ dataDir });
  expect(new URL(second.url).password).toBe(new URL(first.url).password);
  expect(await query(second.url, 'SELECT v, upper(v) AS upper FROM t')).toEqual([{ v: 'zürich', upper: 'ZÜRICH' }]);
});

test('a wrong password is refused', async () => {
  const postgres = await start({ dataDir: clusterDirectory(), throwaway: true });
  const url = new URL(postgres.url);
  url.password = 'wrong';
  await expect(query(url.href, 'SELECT 1')).rejects.toMatchObject({ code: '28P01' });
});

test('supervision brings a killed server up again on its port with everything that was committed', async () => {
  const postgres = await start({ dataDir: clusterDirectory(), supervise: true });
  await query(postgres.url, 'CREATE TABLE t AS SELECT generate_series(1, 1000) AS n');
  const killed = postgres.pid;
  if (killed === undefined) throw new Error('it has no pid');
  process.kill(killed, 'SIGKILL');
  expect(await waitUntil(() => postgres.restarts === 1, 30_000)).toBe(true);
  expect(postgres.pid).not.toBe(killed);
  expect(await query(postgres.url, 'SELECT count(*)::int AS n FROM t')).toEqual([{ n: 1000 }]);
});

test('without supervision a killed server stays down, and stopping it is no error', async () => {
  const postgres = await start({ dataDir: clusterDirectory(), throwaway: true });
  process.kill(postgres.pid ?? 0, 'SIGKILL');
  expect(await waitUntil(() => postgres.pid === undefined, 30_000)).toBe(true);
  await postgres.stop();
  expect(postgres.restarts).toBe(0);
});

test('a server killed with a busy session starts again without harm', async () => {
  const dataDir = clusterDirectory();
  const first = await start({ dataDir });
  await query(first.url, 'CREATE TABLE t (n int)');
  const busy = new Client({ connectionString: first.url });
  busy.on('error', () => undefined);
  await busy.connect();
  const running = busy.query('INSERT INTO t SELECT n FROM generate_series(1, 100000000) AS n').catch(() => undefined);
  expect(
    await waitUntil(async () => {
      const rows = await query(
        first.url,
        "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'INSERT%'",
      );
      return rows.length === 1;
    }, 30_000),
  ).toBe(true);
  process.kill(first.pid ?? 0, 'SIGKILL');
  await waitUntil(() => first.pid === undefined, 30_000);
  await first.stop();

  const second = await start({ dataDir });
  await running;
  expect(await query(second.url, 'SELECT count(*)::int AS n FROM t')).toEqual([{ n: 0 }]);
});

test('a pid file left by a crash that now names an unrelated process does not stop the start', async () => {
  const dataDir = clusterDirectory();
  const first = await start({ dataDir });
  await query(first.url, 'CREATE TABLE t AS SELECT 1 AS n');
  const pidFile = join(dataDir, 'cluster', 'postmaster.pid');
  const lines = readFileSync(pidFile, 'utf8').split('\n');
  process.kill(first.pid ?? 0, 'SIGKILL');
  await waitUntil(() => first.pid === undefined, 30_000);
  await first.stop();
  writeFileSync(pidFile, [String(process.ppid), ...lines.slice(1)].join('\n'));

  const second = await start({ dataDir });
  expect(await query(second.url, 'SELECT n FROM t')).toEqual([{ n: 1 }]);
});

test('a cluster of another major version is refused by name, and left alone', async () => {
  const dataDir = clusterDirectory();
  writeFileSync(join(dataDir, 'cluster', 'PG_VERSION'), '17\n');
  await expect(start({ dataDir })).rejects.toThrow(/made by Postgres 17.*brings Postgres 18/);
});

test('a lost password file is refused with what to restore', async () => {
  const dataDir = clusterDirectory();
  writeFileSync(join(dataDir, 'password'), 'other\n');
  await expect(start({ dataDir })).rejects.toThrow(/password is not the password of the cluster/);
});

test('a taken port is named', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => new Promise<void>((resolve) => server.close(() => resolve())));
  const address = server.address();
  const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
  await expect(start({ dataDir: clusterDirectory(), port, throwaway: true })).rejects.toThrow(
    `Port ${port} on 127.0.0.1 is taken`,
  );
});

test.runIf(process.getuid?.() === 0)('as root, a directory that the server user cannot enter is named', async () => {
  const closed = join(temporaryDirectory(), 'closed');
  mkdirSync(closed, { mode: 0o700 });
  chmodSync(closed, 0o700);
  await expect(start({ dataDir: join(closed, 'data') })).rejects.toThrow(new RegExp(`may not enter ${closed}`));
});
