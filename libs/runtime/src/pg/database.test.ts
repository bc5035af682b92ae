import { createTestDatabase, type TestDatabase } from '@tuneloop/testkit/database';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
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
  const connection = await pg.listener();
  const notices: (string | undefined)[] = [];
  connection.on('notice', (notice) => notices.push(notice.message));
  connection.release();
  const isolation = () => `SELECT current_setting('transaction_isolation') AS level`;
  const project = '01990000-0000-7000-8000-000000000001';
  expect(await pg.withService((tx) => tx.query(isolation()))).toEqual([{ level: 'read committed' }]);
  const seen = await pg.withTenant(
    project,
    (tx) => tx.query(`${isolation()}, current_setting('tl.project') AS project, current_setting('tl.actor') AS actor`),
    { isolation: 'serializable', actor: 'x' },
  );
  expect(seen).toEqual([{ level: 'serializable', project, actor: 'x' }]);
  expect(notices).toEqual([]);
});
