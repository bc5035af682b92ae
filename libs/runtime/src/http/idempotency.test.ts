import { defineRoute } from '@tuneloop/contracts/route';
import { createTestDatabase } from '@tuneloop/testkit/database';
import type { TestDatabase } from '@tuneloop/testkit/database';
import { eventually } from '@tuneloop/testkit/eventually';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { deriveSigningKey } from '../auth/keys.ts';
import { signGatewayToken } from '../auth/tokens.ts';
import { createAuthenticator } from '../auth/verifier.ts';
import { AppError } from '../errors.ts';
import { FaultPoints } from '../faultPoints.ts';
import { newId } from '../ids.ts';
import { createLog } from '../log.ts';
import { createMetrics } from '../metrics.ts';
import { Database } from '../pg/database.ts';
import { createHttpApp } from './app.ts';
import type { HttpApp } from './app.ts';
import { mountRoute } from './mountRoute.ts';

const SECRET = 'a secret for tests that is long enough to be one';
const project = newId();
const otherProject = newId();

const note = z.object({ id: z.uuid(), text: z.string() });
const createNote = defineRoute({
  service: 'rewards',
  operationId: 'createNote',
  method: 'POST',
  path: '/api/v1/notes',
  scope: 'write',
  summary: 'test',
  status: 201,
  query: z.object({ mode: z.string().optional() }),
  body: z.object({
    text: z.string(),
    fail: z.boolean().default(false),
    wait: z.boolean().default(false),
    broken: z.boolean().default(false),
    bad_id: z.string().optional(),
  }),
  response: note,
});
const createDetached = defineRoute({ ...createNote, operationId: 'createDetached', path: '/api/v1/detached' });

let database: TestDatabase;
let pg: Database;
let admin: Client;
let app: HttpApp;
let url: string;
let runs = 0;
let gate: PromiseWithResolvers<void>;
let entered: PromiseWithResolvers<void>;

beforeAll(async () => {
  database = await createTestDatabase('http_idempotency');
  admin = new Client({ connectionString: database.url });
  await admin.connect();
  await admin.query(`
    CREATE SCHEMA rewards;
    ALTER DATABASE ${database.name} SET search_path = rewards;
    CREATE TABLE rewards.note (id uuid PRIMARY KEY, project_id uuid NOT NULL, text text NOT NULL);
    CREATE TABLE rewards.idempotency (project_id uuid NOT NULL, key text NOT NULL, operation text NOT NULL, request_hash bytea NOT NULL,
      status int, response jsonb, created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (project_id, key, operation))`);
  const log = createLog({ level: 'silent' });
  pg = new Database({ url: database.url, schema: 'rewards', applicationName: 'test', log, faults: new FaultPoints() });
  app = await createHttpApp({
    service: 'rewards',
    log,
    metrics: createMetrics({ service: 'rewards' }),
    ready: async () => ({}),
  });
  const ctx = { pg, log, auth: createAuthenticator({ service: 'rewards', secret: SECRET }) };
  mountRoute(app, ctx, createNote, async ({ tx, body, auth }) => {
    runs++;
    const row = { id: newId(), text: body.text };
    await tx.query('INSERT INTO note (id, project_id, text) VALUES ($1, $2, $3)', [
      body.bad_id ?? row.id,
      auth.projectId,
      row.text,
    ]);
    if (body.wait) {
      entered.resolve();
      await gate.promise;
    }
    if (body.fail) throw new AppError({ code: 'test.failed', status: 422, message: 'no' });
    return body.broken ? { id: 'no uuid', text: '' } : row;
  });
  mountRoute(
    app,
    ctx,
    createDetached,
    async ({ idempotent, body, auth }) =>
      idempotent(async (tx) => {
        runs++;
        const row = { id: newId(), text: body.text };
        await tx.query('INSERT INTO note (id, project_id, text) VALUES ($1, $2, $3)', [
          row.id,
          auth.projectId,
          row.text,
        ]);
        return row;
      }),
    { transaction: false },
  );
  url = await app.listen({ port: 0, host: '127.0.0.1' });
});
afterAll(async () => {
  await app?.close();
  await pg?.close();
  await admin?.end();
  await database?.drop();
});

async function post(
  key: string | undefined,
  body: Record<string, unknown>,
  options: { project?: string; path?: string } = {},
) {
  const token = await signGatewayToken(deriveSigningKey(SECRET, 'gateway'), {
    projectId: options.project ?? project,
    subject: 'u',
    actor: 'user:u',
    scopes: ['write'],
    role: '',
    kind: 'user',
  });
  const response = await fetch(url + (options.path ?? '/api/v1/notes'), {
    method: 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      ...(key === undefined ? {} : { 'idempotency-key': key }),
    },
    body: JSON.stringify(body),
  });
  return {
    status: response.status,
    replayed: response.headers.get('idempotency-replayed'),
    json: (await response.json()) as Record<string, unknown>,
  };
}
const notes = async (text: string) =>
  (await admin.query('SELECT 1 FROM rewards.note WHERE text = $1', [text])).rowCount;

describe.each(['/api/v1/notes', '/api/v1/detached'])('Idempotency-Key on %s', (path) => {
  it('replays the answer of the same request and does the work once', async () => {
    const key = newId();
    const text = newId();
    const first = await post(key, { text, fail: false }, { path });
    const again = await post(key, { fail: false, text }, { path });
    expect([first.status, first.replayed]).toEqual([201, null]);
    expect([again.status, again.replayed, again.json]).toEqual([201, 'true', first.json]);
    expect(await notes(text)).toBe(1);
  });

  it('refuses another body under the same key', async () => {
    const key = newId();
    await post(key, { text: 'a' }, { path });
    const other = await post(key, { text: 'b' }, { path });
    expect([other.status, other.json.code]).toEqual([409, 'idempotency.key_reused']);
    expect((await post(key, { text: 'a' }, { path: `${path}?mode=x` })).status).toBe(409);
  });
});

describe('a key', () => {
  it('belongs to one project and one operation', async () => {
    const key = newId();
    const ours = await post(key, { text: 'a' });
    const theirs = await post(key, { text: 'a' }, { project: otherProject });
    const elsewhere = await post(key, { text: 'a' }, { path: '/api/v1/detached' });
    expect([theirs.replayed, elsewhere.replayed]).toEqual([null, null]);
    expect(new Set([ours.json.id, theirs.json.id, elsewhere.json.id]).size).toBe(3);
  });

  it('makes concurrent duplicates wait for the first and share its answer', async () => {
    const key = newId();
    const text = newId();
    gate = Promise.withResolvers();
    entered = Promise.withResolvers();
    const before = runs;
    const calls = [post(key, { text, wait: true })];
    await entered.promise;
    calls.push(post(key, { text, wait: true }), post(key, { text, wait: true }));
    // Both duplicates are stuck in their INSERT once Postgres shows two waiting locks.
    for (;;) {
      const { rows } = await admin.query('SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = $1', [
        'transactionid',
      ]);
      if (rows.length === 2) break;
    }
    gate.resolve();
    const answers = await Promise.all(calls);
    expect(answers.map((answer) => answer.status)).toEqual([201, 201, 201]);
    expect(new Set(answers.map((answer) => answer.json.id)).size).toBe(1);
    expect(runs - before).toBe(1);
    expect(await notes(text)).toBe(1);
  });

  it('is free again when the work failed, and a failure leaves nothing', async () => {
    const key = newId();
    const text = newId();
    expect((await post(key, { text, fail: true })).status).toBe(422);
    expect((await post(key, { text, broken: true })).json.code).toBe('runtime.response_invalid');
    expect(await notes(text)).toBe(0);
    expect((await post(key, { text })).replayed).toBeNull();
    expect(await notes(text)).toBe(1);
  });

  it('is forgotten after a day', async () => {
    const key = newId();
    await post(key, { text: 'a' });
    await admin.query(`UPDATE rewards.idempotency SET created_at = now() - interval '25 hours' WHERE key = $1`, [key]);
    const later = await post(key, { text: 'b' });
    expect([later.status, later.replayed]).toEqual([201, null]);
  });

  it('must be visible ASCII of bounded length', async () => {
    expect((await post('x'.repeat(256), { text: 'a' })).json.code).toBe('idempotency.key_invalid');
    expect((await post('two words', { text: 'a' })).status).toBe(400);
  });
});

describe('Postgres errors', () => {
  it('answer 400 for a value that is no uuid, without the statement', async () => {
    const answer = await post(undefined, { text: 'a', bad_id: 'nope' });
    expect([answer.status, answer.json.code]).toEqual([400, 'request.value_invalid']);
    const id = newId();
    await post(undefined, { text: 'a', bad_id: id });
    expect((await post(undefined, { text: 'a', bad_id: id })).json).toMatchObject({
      status: 409,
      code: 'request.duplicate',
    });
  });

  it('answer 503 with Retry-After when connections are cut', async () => {
    gate = Promise.withResolvers();
    entered = Promise.withResolvers();
    const call = post(undefined, { text: 'cut', wait: true });
    await entered.promise;
    await admin.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test' AND datname = current_database()`,
    );
    gate.resolve();
    const answer = await call;
    expect([answer.status, answer.json.code]).toEqual([503, 'runtime.postgres.unavailable']);
    // The pool learns of its other dead connections one by one; then it serves again.
    await eventually(async () => (await post(undefined, { text: 'after' })).status === 201);
  });
});
