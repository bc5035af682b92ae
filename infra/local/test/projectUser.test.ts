import { silentLog } from '@tuneloop/local/log';
import { type LocalNats, startNats } from '@tuneloop/local/nats';
import { waitUntil } from '@tuneloop/local/processes';
import { INTAKE_KINDS, type ProjectUser, signProjectUser } from '@tuneloop/runtime/bus/natsCredentials';
import { connect, type ConnectionOptions, credsAuthenticator, type NatsConnection } from 'nats';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';

const storeDir = mkdtempSync(join(tmpdir(), 'tuneloop-local-'));
let nats: LocalNats;
let services: NatsConnection;

async function connectWith(creds: string, options: ConnectionOptions = {}): Promise<NatsConnection> {
  return connect({
    servers: nats.url,
    authenticator: credsAuthenticator(new TextEncoder().encode(creds)),
    reconnect: false,
    ...options,
  });
}

async function api(subject: string, body: object = {}): Promise<Record<string, unknown>> {
  const answer: unknown = (await services.request(`$JS.API.${subject}`, JSON.stringify(body))).json();
  return answer as Record<string, unknown>;
}

async function messagesIn(stream: string): Promise<number> {
  const { state } = await api(`STREAM.INFO.${stream}`);
  return (state as { messages: number }).messages;
}

beforeAll(async () => {
  nats = await startNats({ storeDir, log: silentLog });
  services = await connectWith(nats.serviceCreds);
  for (const [name, subject] of [
    ['EXT', 'ext.>'],
    ['TL', 'tl.>'],
  ] as const) {
    const created = await api(`STREAM.CREATE.${name}`, {
      name,
      subjects: [subject],
      storage: 'file',
      retention: 'limits',
    });
    if ('error' in created) throw new Error(JSON.stringify(created));
  }
});

afterAll(async () => {
  await services?.close();
  await nats?.stop();
  rmSync(storeDir, { recursive: true, force: true });
});

async function projectUser(projectId: string, ttlSeconds = 300): Promise<ProjectUser> {
  return signProjectUser({ accountSeed: nats.accountSigningSeed, projectId, ttlSeconds });
}

interface Publisher {
  user: ProjectUser;
  connection: NatsConnection;
  refusals: string[];
}

/** A project's publisher that notes every permission the server refuses it. */
async function publisher(projectId: string): Promise<Publisher> {
  const user = await projectUser(projectId);
  const connection = await connectWith(user.creds, { inboxPrefix: user.inboxPrefix });
  onTestFinished(() => connection.close());
  const refusals: string[] = [];
  void (async () => {
    for await (const status of connection.status()) {
      if (status.type === 'error') refusals.push(status.error.message);
    }
  })();
  return { user, connection, refusals };
}

test.each(INTAKE_KINDS)('its own %s subject is stored and acknowledged', async (kind) => {
  const { connection } = await publisher('p1');
  const ack: unknown = (await connection.request(`ext.p1.${kind}.submitted.v1`, '{}')).json();
  expect(ack).toMatchObject({ stream: 'EXT' });
});

test('a publish without a reply is stored too', async () => {
  const { connection } = await publisher('p1');
  const before = await messagesIn('EXT');
  connection.publish('ext.p1.image.submitted.v1', '{}');
  expect(await waitUntil(async () => (await messagesIn('EXT')) === before + 1, 5000)).toBe(true);
});

test.each([
  'ext.p2.image.submitted.v1',
  'ext.p1.other.submitted.v1',
  'rejects.p1.image.v1',
  'tl.p1.image.uploaded.v1',
  '$JS.API.STREAM.LIST',
  '$JS.API.STREAM.DELETE.EXT',
  '$SYS.REQ.SERVER.PING',
])('publishing %s is refused', async (subject) => {
  const { connection, refusals } = await publisher('p1');
  const before = [await messagesIn('EXT'), await messagesIn('TL')];
  connection.publish(subject, '{}', { reply: '_INBOX_x.1' });
  expect(await waitUntil(() => refusals.some((refusal) => refusal.includes(subject)), 5000)).toBe(true);
  expect([await messagesIn('EXT'), await messagesIn('TL')]).toEqual(before);
});

test.each(['rejects.p2.>', 'rejects.>', 'ext.>', 'ext.p1.>', 'tl.>', '_INBOX.>', '>', '$JS.>'])(
  'subscribing %s is refused',
  async (subject) => {
    const { connection, refusals } = await publisher('p1');
    connection.subscribe(subject);
    expect(await waitUntil(() => refusals.some((refusal) => refusal.includes(`"${subject}"`)), 5000)).toBe(true);
  },
);

test('the inbox of another publisher is refused, even of the same project', async () => {
  const { connection, refusals } = await publisher('p1');
  const other = await projectUser('p1');
  connection.subscribe(`${other.inboxPrefix}.>`);
  expect(await waitUntil(() => refusals.length > 0, 5000)).toBe(true);
});

test('rejections reach their own project and no other', async () => {
  const [one, two] = [await publisher('p1'), await publisher('p2')];
  const seen: string[] = [];
  one.connection.subscribe('rejects.p1.>', { callback: (_error, message) => void seen.push(`one ${message.subject}`) });
  two.connection.subscribe('rejects.p2.>', { callback: (_error, message) => void seen.push(`two ${message.subject}`) });
  await Promise.all([one.connection.flush(), two.connection.flush()]);
  services.publish('rejects.p1.image.v1', '{}');
  services.publish('rejects.p2.image.v1', '{}');
  expect(await waitUntil(() => seen.length >= 2, 5000)).toBe(true);
  expect(seen.toSorted()).toEqual(['one rejects.p1.image.v1', 'two rejects.p2.image.v1']);
});

// JetStream sends a PubAck to whatever reply a publisher names. In one shared account these purge a stream, or store a
// forged event.
test.each([
  '$JS.API.STREAM.PURGE.TL',
  '$JS.API.STREAM.DELETE.TL',
  'tl.p2.image.uploaded.v1',
  'ext.p2.image.submitted.v1',
])('an acknowledgement addressed to %s does nothing', async (reply) => {
  const { connection } = await publisher('p1');
  await services.request('tl.p2.kept.v1', '{}');
  const before = await messagesIn('TL');
  const stored = await messagesIn('EXT');
  connection.publish('ext.p1.image.submitted.v1', '{}', { reply });
  expect(await waitUntil(async () => (await messagesIn('EXT')) > stored, 5000)).toBe(true);
  // The same route again, acknowledged: what the first publish set off has run by then.
  await connection.request('ext.p1.image.submitted.v1', '{}');
  expect(await messagesIn('TL')).toBe(before);
  expect(await messagesIn('EXT')).toBe(stored + 2);
});

test('expired credentials are refused', async () => {
  const user = await signProjectUser({
    accountSeed: nats.accountSigningSeed,
    projectId: 'p1',
    ttlSeconds: 1,
    now: new Date(Date.now() - 3_600_000),
  });
  await expect(connectWith(user.creds, { inboxPrefix: user.inboxPrefix })).rejects.toThrow(/authorization|expired/i);
});

test.each(['', 'a.b', '*', '>', 'a b', 'x'.repeat(65)])(
  'a project id %j that is not one token is refused',
  async (id) => {
    await expect(projectUser(id)).rejects.toThrow(RangeError);
  },
);
