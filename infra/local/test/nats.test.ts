import { statSync } from 'node:fs';
import { join } from 'node:path';
import { silentLog } from '@tuneloop/local/log';
import { type LocalNats, type NatsOptions, startNats } from '@tuneloop/local/nats';
import { waitUntil } from '@tuneloop/local/processes';
import { connect, credsAuthenticator, type NatsConnection } from 'nats';
import { expect, onTestFinished, test } from 'vitest';
import { temporaryDirectory } from './temporaryDirectory.ts';

async function start(options: Omit<NatsOptions, 'log'>): Promise<LocalNats> {
  const nats = await startNats({ ...options, log: silentLog });
  onTestFinished(() => nats.stop());
  return nats;
}

async function connectAs(nats: LocalNats, creds: string): Promise<NatsConnection> {
  const connection = await connect({
    servers: nats.url,
    authenticator: credsAuthenticator(new TextEncoder().encode(creds)),
    reconnect: false,
  });
  onTestFinished(() => connection.close());
  return connection;
}

async function streamMessages(connection: NatsConnection, stream: string): Promise<number> {
  const info: unknown = (await connection.request(`$JS.API.STREAM.INFO.${stream}`)).json();
  return (info as { state: { messages: number } }).state.messages;
}

async function createStream(connection: NatsConnection, name: string, subject: string): Promise<void> {
  const config = { name, subjects: [subject], storage: 'file', retention: 'limits', num_replicas: 1 };
  const answer: unknown = (await connection.request(`$JS.API.STREAM.CREATE.${name}`, JSON.stringify(config))).json();
  expect(answer).not.toHaveProperty('error');
}

test('streams and keys last over a clean restart; secrets are readable by the owner alone', async () => {
  const storeDir = temporaryDirectory();
  const first = await start({ storeDir });
  const connection = await connectAs(first, first.serviceCreds);
  await createStream(connection, 'S', 's.>');
  await connection.request('s.one', 'x');
  for (const file of ['identity.json', 'nats.conf']) expect(statSync(join(storeDir, file)).mode & 0o777).toBe(0o600);
  await first.stop();

  const second = await start({ storeDir });
  expect(second.serviceCreds).toBe(first.serviceCreds);
  expect(await streamMessages(await connectAs(second, second.serviceCreds), 'S')).toBe(1);
});

test('supervision brings a killed server up again on its port with its streams', async () => {
  const nats = await start({ storeDir: temporaryDirectory(), supervise: true });
  const connection = await connectAs(nats, nats.serviceCreds);
  await createStream(connection, 'S', 's.>');
  for (let i = 0; i < 100; i += 1) await connection.request(`s.${i}`, 'x');
  process.kill(nats.pid ?? 0, 'SIGKILL');
  expect(await waitUntil(() => nats.restarts === 1, 30_000)).toBe(true);
  expect(await streamMessages(await connectAs(nats, nats.serviceCreds), 'S')).toBe(100);
});

test('accounts do not see each other', async () => {
  const nats = await start({ storeDir: temporaryDirectory(), extraAccounts: ['OTHER'] });
  const other = nats.accounts.find((account) => account.name === 'OTHER');
  const mine = await connectAs(nats, nats.serviceCreds);
  const theirs = await connectAs(nats, other?.serviceCreds ?? '');
  await createStream(mine, 'S', 's.>');
  const seen: string[] = [];
  theirs.subscribe('>', { callback: (_error, message) => void seen.push(message.subject) });
  await theirs.flush();
  await mine.request('s.one', 'x');
  theirs.publish('own', 'x');
  await theirs.flush();
  expect(await waitUntil(() => seen.includes('own'), 5000)).toBe(true);
  expect(seen.filter((subject) => subject.startsWith('s.'))).toEqual([]);
  const list: unknown = (await theirs.request('$JS.API.STREAM.NAMES')).json();
  expect(list).toMatchObject({ total: 0 });
});

test('a connection without credentials is refused', async () => {
  const nats = await start({ storeDir: temporaryDirectory() });
  await expect(connect({ servers: nats.url, reconnect: false })).rejects.toThrow(/authorization/i);
});
