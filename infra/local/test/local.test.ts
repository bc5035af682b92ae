import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DirectoryInUseError } from '@tuneloop/local/directoryLock';
import { silentLog } from '@tuneloop/local/log';
import { type Local, startLocal } from '@tuneloop/local/local';
import { isAlive, waitUntil } from '@tuneloop/local/processes';
import { Client } from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { temporaryDirectory } from './temporaryDirectory.ts';

interface Held {
  pid: number;
  databaseUrl: string;
  postgresPid: number;
  natsPid: number;
  kill(signal: NodeJS.Signals): Promise<void>;
}

/** The stack in a process of its own, as `npm start` has it. */
async function startElsewhere(dataDir: string): Promise<Held> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'startAndHold.ts'), dataDir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const kill = async (signal: NodeJS.Signals): Promise<void> => {
    child.kill(signal);
    await ended;
  };
  onTestFinished(() => kill('SIGTERM'));
  for await (const line of createInterface({ input: child.stdout })) {
    const said = JSON.parse(line) as Omit<Held, 'pid' | 'kill'>;
    return { ...said, pid: child.pid ?? 0, kill };
  }
  throw new Error('the process ended without starting the stack');
}

async function start(dataDir: string): Promise<Local> {
  const local = await startLocal({ dataDir, log: silentLog });
  onTestFinished(() => local.stop());
  return local;
}

async function query(url: string, text: string): Promise<unknown[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

test('a second start on a data directory is refused with the pid of the first, which goes on', async () => {
  const dataDir = temporaryDirectory();
  const first = await startElsewhere(dataDir);
  const refusal = await startLocal({ dataDir, log: silentLog }).catch((error: unknown) => error);
  expect(refusal).toBeInstanceOf(DirectoryInUseError);
  expect(refusal).toMatchObject({ pid: first.pid });
  expect(await query(first.databaseUrl, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
});

test('after a SIGKILL the next start stops what was left running and has the data', async () => {
  const dataDir = temporaryDirectory();
  const killed = await startElsewhere(dataDir);
  await query(killed.databaseUrl, 'CREATE TABLE t AS SELECT 7 AS n');
  await killed.kill('SIGKILL');
  expect([isAlive(killed.postgresPid), isAlive(killed.natsPid)]).toEqual([true, true]);

  const local = await start(dataDir);
  expect([isAlive(killed.postgresPid), isAlive(killed.natsPid)]).toEqual([false, false]);
  expect(await query(local.databaseUrl, 'SELECT n FROM t')).toEqual([{ n: 7 }]);
});

test('servers that are given by URL are used as they are, and nothing is started', async () => {
  const local = await startLocal({
    dataDir: temporaryDirectory(),
    databaseUrl: 'postgresql://db.example/tuneloop',
    natsUrl: 'nats://nats.example:4222',
    natsCreds: 'creds',
    natsAccountSeed: 'seed',
    log: silentLog,
  });
  onTestFinished(() => local.stop());
  expect(local).toMatchObject({
    databaseUrl: 'postgresql://db.example/tuneloop',
    natsUrl: 'nats://nats.example:4222',
    natsCreds: 'creds',
    natsAccountSeed: 'seed',
    postgres: undefined,
    nats: undefined,
  });
});

test('when one part cannot start, the other is stopped and the directory is free again', async () => {
  const dataDir = temporaryDirectory();
  // A cluster directory without a cluster in it.
  mkdirSync(join(dataDir, 'postgres', 'cluster'), { recursive: true });
  await expect(startLocal({ dataDir, log: silentLog })).rejects.toThrow(/holds no Postgres cluster/);
  const local = await startLocal({ dataDir, databaseUrl: 'postgresql://db.example/tuneloop', log: silentLog });
  const pid = local.nats?.pid ?? 0;
  expect(isAlive(pid)).toBe(true);
  await local.stop();
  expect(await waitUntil(() => !isAlive(pid), 5000)).toBe(true);
});
