import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { silentLog } from '@tuneloop/local/log';
import { resolveNatsServer } from '@tuneloop/local/natsBinary';
import { startPostgres } from '@tuneloop/local/postgres';
import { eventually } from '@tuneloop/testkit/eventually';
import { freePort } from '@tuneloop/testkit/freePort';
import { afterAll, beforeAll, expect, it } from 'vitest';

const BIN = fileURLToPath(new URL('../src/bin.ts', import.meta.url));
const SECRET = 'secret-of-a-deployment-under-test-0123456789';
const START_TIMEOUT_MS = 60_000;

/** Given servers, the operator's commands, then `tuneloop up`: what a container platform does, step by step. */
const folder = mkdtempSync(join(tmpdir(), 'tuneloop-deployment-'));
const access = join(folder, 'access');
const stops: (() => Promise<unknown>)[] = [];
let gatewayUrl = '';
let env: Record<string, string> = {};

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function start(args: readonly string[], given: Readonly<Record<string, string>>): ChildProcess {
  const { PATH = '', HOME = '' } = process.env;
  return spawn(process.execPath, [BIN, ...args], { env: { PATH, HOME, ...given }, stdio: ['ignore', 'pipe', 'pipe'] });
}

async function tuneloop(args: readonly string[], given: Readonly<Record<string, string>>): Promise<Outcome> {
  const child = start(args, given);
  let stdout = '';
  let stderr = '';
  child.stdout!.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  await once(child, 'close');
  return { code: child.exitCode, stdout, stderr };
}

async function succeeded(command: Promise<Outcome>): Promise<void> {
  const outcome = await command;
  if (outcome.code !== 0) throw new Error(`${outcome.stdout}\n${outcome.stderr}`);
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  await gone;
}

async function listens(port: number): Promise<boolean> {
  const socket = connectTcp(port, '127.0.0.1');
  return Promise.race([once(socket, 'connect').then(() => true), once(socket, 'error').then(() => false)])
    .catch(() => false)
    .finally(() => socket.destroy());
}

const natsAccounts = (listen: string): Promise<Outcome> =>
  tuneloop(
    [
      'nats-accounts',
      '--keys',
      join(folder, 'keys'),
      '--out',
      access,
      '--listen',
      listen,
      '--monitor',
      '127.0.0.1:0',
      '--store',
      join(folder, 'jetstream'),
    ],
    {},
  );

beforeAll(async () => {
  // Under root, Postgres runs as somebody else.
  chmodSync(folder, 0o755);
  const [postgres, natsPort, port, binary] = await Promise.all([
    startPostgres({ dataDir: join(folder, 'postgres'), throwaway: true, log: silentLog }),
    freePort(),
    freePort(),
    resolveNatsServer({ log: silentLog }),
  ]);
  stops.push(() => postgres.stop());
  await succeeded(natsAccounts(`127.0.0.1:${natsPort}`));
  const nats = spawn(binary, ['--config', join(access, 'nats.conf')], { stdio: 'ignore' });
  stops.push(() => stopChild(nats));
  await eventually(() => listens(natsPort));

  await succeeded(tuneloop(['migrate'], { DATABASE_URL: postgres.url, TUNELOOP_SECRET: SECRET }));
  // As in the compose file and the chart: no login in what the services are given.
  const { host, pathname } = new URL(postgres.url);
  env = {
    DATABASE_URL: `postgres://${host}${pathname}`,
    NATS_URL: `nats://127.0.0.1:${natsPort}`,
    NATS_CREDS_FILE: join(access, 'services.creds'),
    NATS_ACCOUNT_SEED_FILE: join(access, 'intake.seed'),
    TUNELOOP_SECRET: SECRET,
    HOST: '127.0.0.1',
    PORT: String(port),
    LOG_LEVEL: 'warn',
  };
  const up = start(['up', '--no-migrate', '--data', join(folder, 'data')], env);
  stops.push(() => stopChild(up));
  let output = '';
  for (const stream of [up.stdout!, up.stderr!])
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  gatewayUrl = `http://127.0.0.1:${port}`;
  await eventually(
    async () => {
      if (up.exitCode !== null) throw new Error(output);
      return (await fetch(`${gatewayUrl}/readyz`)).ok;
    },
    { timeoutMs: START_TIMEOUT_MS },
  );
}, 2 * START_TIMEOUT_MS);

afterAll(async () => {
  for (const stop of stops.toReversed()) await stop();
  rmSync(folder, { recursive: true, force: true });
});

async function call(path: string, key: string, init: RequestInit = {}): Promise<{ status: number; body: unknown }> {
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
  const answer = await fetch(`${gatewayUrl}${path}`, { ...init, headers });
  return { status: answer.status, body: await answer.json() };
}

it('gives a first key for nothing but the secret, the key alone on standard output, and finds the project again', async () => {
  const given = { TUNELOOP_SECRET: SECRET, TUNELOOP_URL: gatewayUrl };
  const first = await tuneloop(['bootstrap', '--slug', 'main', '--name', 'Main'], given);
  expect(first).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^tl_\S+\n$/),
    stderr: expect.stringContaining('created'),
  });
  const second = await tuneloop(['bootstrap', '--slug', 'main'], given);
  expect(second).toMatchObject({ code: 0, stderr: expect.stringContaining('was there already') });
  const answers = await Promise.all([first, second].map(({ stdout }) => call('/api/v1/me', stdout.trim())));
  expect(answers.map(({ body }) => body)).toEqual([
    expect.objectContaining({ project: { slug: 'main', name: 'Main' }, role: 'owner' }),
    expect.objectContaining({ project: { slug: 'main', name: 'Main' }, role: 'owner' }),
  ]);

  // Every service answers behind the door, and the gateway signs publishers by the seed that came in a file.
  for (const path of ['/api/v1/images', '/api/v1/responses', '/api/v1/rewards', '/api/v1/retraining-runs']) {
    expect(await call(path, first.stdout.trim())).toMatchObject({ status: 200, body: { data: [] } });
  }
  const credentials = await call('/api/v1/nats-credentials', first.stdout.trim(), { method: 'POST', body: '{}' });
  expect(credentials).toMatchObject({ status: 201, body: { creds: expect.stringContaining('NATS USER JWT') } });
});

it.each([
  ['another secret', { TUNELOOP_SECRET: `${SECRET}x` }, ['--slug', 'other'], /credentials|token/i],
  ['no secret', {}, ['--slug', 'other'], /TUNELOOP_SECRET is required/],
  ['a slug that is none', { TUNELOOP_SECRET: SECRET }, ['--slug', 'Not A Slug'], /slug/],
  ['no slug', { TUNELOOP_SECRET: SECRET }, [], /required option '--slug <slug>'/],
])('bootstrap with %s makes nothing and says why', async (_case, given, args, message) => {
  const outcome = await tuneloop(['bootstrap', ...args], { TUNELOOP_URL: gatewayUrl, ...given });
  expect(outcome).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(message) });
});

it('writes the same accounts again, readable by the owner alone', async () => {
  const files = ['nats.conf', 'services.creds', 'intake.seed'].map((name) => join(access, name));
  const before = files.map((file) => readFileSync(file, 'utf8'));
  const listen = /listen: "(.*)"/.exec(before[0]!)![1]!;
  expect(await natsAccounts(listen)).toMatchObject({ code: 0 });
  expect(files.map((file) => readFileSync(file, 'utf8'))).toEqual(before);
  expect(files.map((file) => statSync(file).mode & 0o777)).toEqual([0o600, 0o600, 0o600]);
});

it.each([
  ['migrate', ['migrate'], /DATABASE_URL is required/],
  ['up', ['up', '--data', join(folder, 'none')], /DATABASE_URL is required.*NATS_URL is required/s],
])('%s without its servers names what is missing and ends with 1', async (_case, args, message) => {
  const outcome = await tuneloop(args, { TUNELOOP_SECRET: SECRET });
  expect(outcome).toMatchObject({ code: 1, stdout: expect.stringMatching(message) });
});
