import { createTestDatabase, type TestDatabase } from '@tuneloop/testkit/database';
import { Client } from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { FaultPoints } from '../faultPoints.ts';
import { Database } from './database.ts';

let test: TestDatabase;
let pg: Database;
beforeAll(async () => {
  test = await createTestDatabase('runtime_database');
  pg = new Database({
    url: test.url,
    schema: 'public',
    applicationName: 'test',
    log: pino({ level: 'silent' }),
    faults: FaultPoints.parse(undefined),
    maxConnections: 1,
  });
});
afterAll(async () => {
  await pg.close();
  await test.drop();
});

it('begins each transaction once: the server has nothing to remark', async () => {
  const emitted = vi.spyOn(Client.prototype, 'emit');
  const isolation = () => `SELECT current_setting('transaction_isolation') AS level`;
  const project = '01990000-0000-7000-8000-000000000001';
  expect(await pg.withService((tx) => tx.query(isolation()))).toEqual([{ level: 'read committed' }]);
  const seen = await pg.withTenant(
    project,
    (tx) => tx.query(`${isolation()}, current_setting('tl.project') AS project, current_setting('tl.actor') AS actor`),
    { isolation: 'serializable', actor: 'x' },
  );
  expect(seen).toEqual([{ level: 'serializable', project, actor: 'x' }]);
  expect(emitted).toHaveBeenCalled();
  expect(emitted.mock.calls.filter(([event]) => String(event) === 'notice')).toEqual([]);
  emitted.mockRestore();
});

it('says that the outbox grew once the transaction is durable, and never for one that rolled back', async () => {
  let told = 0;
  pg.onOutbox(() => told++);
  await pg.withService(async (tx) => {
    tx.outboxWritten();
    tx.outboxWritten();
    expect(told).toBe(0);
  });
  expect(told).toBe(1);
  const broken = pg.withService(async (tx) => {
    tx.outboxWritten();
    throw new Error('rolled back');
  });
  await expect(broken).rejects.toThrow('rolled back');
  expect(told).toBe(1);
});
