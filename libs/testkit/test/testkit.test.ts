import { createTestDatabase, type DatabaseTemplate } from '@tuneloop/testkit/database';
import { eventually } from '@tuneloop/testkit/eventually';
import { createTestNats } from '@tuneloop/testkit/nats';
import { jetstreamManager } from '@nats-io/jetstream';
import { Client } from 'pg';
import { expect, onTestFinished, test } from 'vitest';

async function query(url: string, text: string): Promise<unknown[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

function countingTemplate(key: string): DatabaseTemplate & { builds(): number } {
  let builds = 0;
  return {
    key,
    async migrate(url) {
      builds += 1;
      await query(url, 'CREATE TABLE t AS SELECT 1 AS n');
    },
    builds: () => builds,
  };
}

test('a template is built once for any number of clones, and a clone is nobody else’s', async () => {
  const template = countingTemplate(`once ${Math.random()}`);
  const clones = await Promise.all([1, 2, 3].map((i) => createTestDatabase(`Clone ${i}`, template)));
  onTestFinished(async () => {
    await Promise.all(clones.map((clone) => clone.drop()));
  });
  expect(template.builds()).toBe(1);
  const [first, second] = clones;
  await query(first?.url ?? '', 'INSERT INTO t VALUES (2)');
  expect(await query(first?.url ?? '', 'SELECT n FROM t ORDER BY n')).toEqual([{ n: 1 }, { n: 2 }]);
  expect(await query(second?.url ?? '', 'SELECT n FROM t')).toEqual([{ n: 1 }]);
});

test('a template whose build failed is built again', async () => {
  const key = `failing ${Math.random()}`;
  const failing = {
    key,
    async migrate(url: string) {
      await query(url, 'CREATE TABLE half_done ()');
      throw new Error('migration 2 failed');
    },
  };
  await expect(createTestDatabase('x', failing)).rejects.toThrow('migration 2 failed');
  const template = countingTemplate(key);
  const database = await createTestDatabase('x', template);
  onTestFinished(() => database.drop());
  expect(template.builds()).toBe(1);
  expect(await query(database.url, 'SELECT n FROM t')).toEqual([{ n: 1 }]);
});

test('drop ends open connections', async () => {
  const database = await createTestDatabase('open');
  const client = new Client({ connectionString: database.url });
  client.on('error', () => undefined);
  await client.connect();
  await database.drop();
  await expect(query(database.url, 'SELECT 1')).rejects.toMatchObject({ code: '3D000' });
});

test('two NATS leases do not see each other, and a lease given back comes out empty', async () => {
  const [one, two] = await Promise.all([createTestNats(), createTestNats()]);
  const names = async (nats: typeof one): Promise<string[]> => {
    const found: string[] = [];
    for await (const name of (await jetstreamManager(await nats.connect())).streams.names()) found.push(name);
    return found;
  };
  await (await jetstreamManager(await one.connect())).streams.add({ name: 'S', subjects: ['s.>'] });
  expect(await names(one)).toEqual(['S']);
  expect(await names(two)).toEqual([]);
  await one.close();
  // Another file may take the account that was given back: whichever this is, it comes out empty.
  const again = await createTestNats();
  expect(again.serviceCreds).not.toBe(two.serviceCreds);
  expect(await names(again)).toEqual([]);
  await Promise.all([two.close(), again.close()]);
});

test('eventually returns the first value that is not false, and tells the last error when there is none', async () => {
  let calls = 0;
  expect(await eventually(() => (calls += 1) >= 3 && calls)).toBe(3);
  await expect(eventually(() => Promise.reject(new Error('still down')), { timeoutMs: 30 })).rejects.toThrow(
    'not within 30 ms: still down',
  );
});
