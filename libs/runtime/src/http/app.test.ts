import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { defineRoute } from '@tuneloop/contracts/route';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { signGatewayToken, signServiceToken } from '../auth/tokens.ts';
import { deriveSigningKey } from '../auth/keys.ts';
import { createAuthenticator } from '../auth/verifier.ts';
import { AppError } from '../errors.ts';
import { newId } from '../ids.ts';
import { createLog } from '../log.ts';
import { createMetrics } from '../metrics.ts';
import type { Tx } from '../pg/database.ts';
import { createHttpApp } from './app.ts';
import type { HttpApp, ReadyChecks } from './app.ts';
import { mountRoute } from './mountRoute.ts';
import type { RouteContext } from './mountRoute.ts';

const SECRET = 'a secret for tests that is long enough to be one';
const PROJECT = newId();

const item = z.object({ id: z.uuid(), name: z.string().min(1).max(20), tags: z.array(z.string()).default([]) });
const base = { service: 'rewards', scope: 'write', summary: 'test' } as const;
const createItem = defineRoute({
  ...base,
  operationId: 'createItem',
  method: 'POST',
  path: '/api/v1/items',
  body: item,
  response: item,
  status: 201,
});
const listItems = defineRoute({
  ...base,
  operationId: 'listItems',
  method: 'GET',
  path: '/api/v1/items/{id}',
  params: z.object({ id: z.uuid() }),
  query: z.object({
    limit: z.number().int().max(10).default(5),
    all: z.boolean().optional(),
    tag: z.array(z.string()).optional(),
  }),
  response: z.object({
    limit: z.number(),
    all: z.boolean().nullable(),
    tag: z.array(z.string()),
    at: z.iso.datetime(),
  }),
});
const failing = (path: string, operationId: string) =>
  defineRoute({
    ...base,
    scope: null,
    operationId,
    method: 'POST',
    path,
    body: z.object({ kind: z.string() }),
    response: z.object({}),
  });
const internal = defineRoute({
  ...base,
  operationId: 'internalOnly',
  scope: 'service',
  method: 'GET',
  path: '/internal/rewards/x',
  response: z.object({ actor: z.string(), correlation: z.string().nullable() }),
});
const streamed = defineRoute({
  ...base,
  operationId: 'streamed',
  method: 'GET',
  path: '/api/v1/stream',
  response: z.unknown(),
  produces: 'application/x-ndjson',
});
const slow = defineRoute({
  ...base,
  operationId: 'slow',
  scope: null,
  method: 'GET',
  path: '/api/v1/slow',
  response: z.object({}),
});
const broken = defineRoute({
  ...base,
  operationId: 'broken',
  scope: null,
  method: 'GET',
  path: '/api/v1/broken',
  response: z.object({ n: z.number() }),
});
const upload = defineRoute({
  ...base,
  operationId: 'upload',
  scope: null,
  method: 'POST',
  path: '/api/v1/upload',
  consumes: 'multipart/form-data',
  response: z.object({ bytes: z.number(), name: z.string() }),
});

/** Errors as the parts below a handler throw them. */
function thrown(kind: string): Error {
  if (kind === 'app')
    return new AppError({ code: 'rewards.reward.not_found', status: 404, message: 'No such reward.', field: 'id' });
  if (kind === 'model')
    return new AppError({ code: 'responses.model.not_found', status: 404, message: 'No such model.' });
  if (kind === 'budget')
    return new AppError({ code: 'responses.budget_spent', status: 409, message: 'The budget is spent.' });
  if (kind === 'bug') return new TypeError('secret detail of a bug');
  return Object.assign(new Error('pg says something with values'), { code: kind, severity: 'ERROR' });
}

/** Only what these routes touch: transactions are tested against Postgres in idempotency.test.ts. */
const noTx = { projectId: PROJECT } as Tx;
const pg: RouteContext['pg'] = {
  withTenant: async (_project, work) => work(noTx),
  withService: async (work) => work(noTx),
};

let app: HttpApp;
let url: string;
let bearer: string;
let checks: ReadyChecks = { postgres: { ok: true } };
let aborted: PromiseWithResolvers<unknown>;

beforeAll(async () => {
  const log = createLog({ level: 'silent' });
  const ctx: RouteContext = { pg, log, auth: createAuthenticator({ service: 'rewards', secret: SECRET }) };
  app = await createHttpApp({
    service: 'rewards',
    log,
    metrics: createMetrics({ service: 'rewards' }),
    ready: async () => checks,
    maxBodyBytes: 2_000,
    readsForms: true,
  });
  mountRoute(app, ctx, createItem, async ({ body }) => body);
  mountRoute(app, ctx, listItems, async ({ query }) => ({
    limit: query.limit,
    all: query.all ?? null,
    tag: query.tag ?? [],
    at: new Date(0),
  }));
  for (const [path, id] of [
    ['/api/v1/fail', 'failProblem'],
    ['/functions/v1/fail', 'failFunctions'],
    ['/v1/fail', 'failOpenai'],
  ] as const) {
    mountRoute(app, ctx, failing(path, id), async ({ body }) => {
      throw thrown(body.kind);
    });
  }
  mountRoute(app, ctx, internal, async ({ auth, correlationId }) => ({
    actor: auth.actor,
    correlation: correlationId ?? null,
  }));
  mountRoute(app, ctx, streamed, async () => Readable.from(['{"n":1}\n', '{"n":2}\n']), { transaction: false });
  mountRoute(app, ctx, broken, async () => ({ n: 'one' }) as unknown as { n: number });
  mountRoute(app, ctx, slow, async ({ signal }) => {
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    aborted.resolve(signal.reason);
    return {};
  });
  mountRoute(app, ctx, upload, async ({ raw }) => {
    const part = await raw.file();
    if (!part) throw new AppError({ code: 'x.file.missing', status: 400, message: 'file is required', field: 'file' });
    return { bytes: (await part.toBuffer()).byteLength, name: part.filename };
  });
  url = await app.listen({ port: 0, host: '127.0.0.1' });
  bearer = await signGatewayToken(deriveSigningKey(SECRET, 'gateway'), {
    projectId: PROJECT,
    subject: 'u1',
    actor: 'user:u1',
    scopes: ['write'],
    role: 'engineer',
    kind: 'user',
  });
});
afterAll(async () => {
  await app?.close();
});

async function send(method: string, path: string, body?: string | FormData, headers: Record<string, string> = {}) {
  const json = typeof body === 'string' && !headers['content-type'] ? { 'content-type': 'application/json' } : {};
  const response = await fetch(url + path, {
    method,
    headers: { authorization: `Bearer ${bearer}`, ...json, ...headers },
    ...(body === undefined ? {} : { body }),
  });
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.includes('json') === true && !path.includes('stream');
  return {
    status: response.status,
    headers: response.headers,
    text,
    json: (isJson ? JSON.parse(text) : {}) as Record<string, unknown>,
  };
}

const good = { id: newId(), name: 'a', tags: ['x'] };

describe('operations', () => {
  it('answers health, readiness and metrics', async () => {
    expect((await send('GET', '/healthz')).json).toEqual({ status: 'ok', service: 'rewards' });
    expect((await send('GET', '/readyz')).status).toBe(200);
    checks = { postgres: { ok: true }, nats: { ok: false, detail: 'no connection' } };
    const notReady = await send('GET', '/readyz');
    checks = { postgres: { ok: true } };
    expect(notReady.status).toBe(503);
    expect(notReady.json).toMatchObject({ status: 'not_ready', checks: { nats: { detail: 'no connection' } } });
    await send('POST', '/api/v1/items', JSON.stringify(good));
    const metrics = await send('GET', '/metrics');
    expect(metrics.text).toContain(
      'tuneloop_http_request_seconds_count{service="rewards",method="POST",route="/api/v1/items",status="201"}',
    );
  });

  it('continues the trace and gives a request id back', async () => {
    const traceId = '0af7651916cd43dd8448eb211c80319c';
    const response = await send('GET', '/healthz', undefined, {
      traceparent: `00-${traceId}-b7ad6b7169203331-01`,
      'x-request-id': 'abc-12345678',
    });
    expect(response.headers.get('traceparent')).toMatch(new RegExp(`^00-${traceId}-[0-9a-f]{16}-01$`));
    expect(response.headers.get('traceparent')).not.toContain('b7ad6b7169203331');
    expect(response.headers.get('x-request-id')).toBe('abc-12345678');
    const refused = await send('GET', '/healthz', undefined, { 'x-request-id': 'bad id!' });
    expect(refused.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe('a mounted route', () => {
  it('answers with the contract status and body', async () => {
    const response = await send('POST', '/api/v1/items', JSON.stringify({ ...good, unknown: 1 }));
    expect(response.status).toBe(201);
    expect(response.json).toEqual(good);
  });

  it('coerces the query and writes dates as ISO texts', async () => {
    const { json } = await send('GET', `/api/v1/items/${newId()}?limit=7&all=false&tag=a&tag=b`);
    expect(json).toEqual({ limit: 7, all: false, tag: ['a', 'b'], at: '1970-01-01T00:00:00.000Z' });
    expect((await send('GET', `/api/v1/items/${newId()}?tag=a`)).json).toMatchObject({
      limit: 5,
      all: null,
      tag: ['a'],
    });
  });

  it('names every wrong field and the fix', async () => {
    const response = await send('POST', '/api/v1/items', JSON.stringify({ id: 'x', name: '', tags: ['a', 3] }));
    expect(response.status).toBe(400);
    expect(response.headers.get('content-type')).toContain('application/problem+json');
    expect(response.json).toMatchObject({
      status: 400,
      title: 'Bad Request',
      code: 'request.invalid',
      errors: [
        { field: 'id', message: expect.stringContaining('must be a UUID') },
        { field: 'name', message: 'must have at least 1 characters' },
        { field: 'tags[1]', message: 'must be a string' },
      ],
    });
    expect((await send('POST', '/api/v1/items', '{}')).json).toMatchObject({
      detail: expect.stringMatching(/^id is required: give a string; name /),
      errors: [{ field: 'id', message: 'is required: give a string' }, { field: 'name' }],
    });
    expect((await send('POST', '/api/v1/items')).json).toMatchObject({
      errors: [{ field: 'body', message: 'is required: give an object' }],
    });
    expect((await send('GET', '/api/v1/items/nope')).json).toMatchObject({ errors: [{ field: 'id' }] });
    expect((await send('GET', `/api/v1/items/${newId()}?limit=many`)).json).toMatchObject({
      errors: [{ field: 'limit', message: 'must be a number' }],
    });
    expect((await send('GET', `/api/v1/items/${newId()}?limit=11`)).json).toMatchObject({
      errors: [{ field: 'limit', message: 'must be at most 10' }],
    });
  });

  it('asks for credentials before it looks at the body', async () => {
    const none = await fetch(`${url}/api/v1/items`, {
      method: 'POST',
      body: '{',
      headers: { 'content-type': 'application/json' },
    });
    expect(none.status).toBe(401);
    expect(none.headers.get('www-authenticate')).toContain('Bearer');
    const readOnly = await signGatewayToken(deriveSigningKey(SECRET, 'gateway'), {
      projectId: PROJECT,
      subject: 'u1',
      actor: 'user:u1',
      scopes: ['read'],
      role: 'viewer',
      kind: 'user',
    });
    const refused = await send('POST', '/api/v1/items', '{', { authorization: `Bearer ${readOnly}` });
    expect(refused.status).toBe(403);
    expect(refused.json).toMatchObject({ code: 'auth.scope_missing', detail: expect.stringContaining('"write"') });
  });

  it('keeps internal routes to services, and passes on actor and correlation', async () => {
    expect((await send('GET', '/internal/rewards/x')).status).toBe(403);
    const token = await signServiceToken(deriveSigningKey(SECRET, 'service'), {
      service: 'trainer',
      projectId: PROJECT,
      actor: 'user:u9',
    });
    const answer = await send('GET', '/internal/rewards/x', undefined, {
      authorization: `Bearer ${token}`,
      'tuneloop-correlation-id': 'c-1',
    });
    expect(answer.json).toEqual({ actor: 'user:u9', correlation: 'c-1' });
  });

  it('streams', async () => {
    const response = await send('GET', '/api/v1/stream');
    expect(response.headers.get('content-type')).toBe('application/x-ndjson');
    expect(response.text).toBe('{"n":1}\n{"n":2}\n');
  });

  it('refuses to send what breaks its contract', async () => {
    const response = await send('GET', '/api/v1/broken');
    expect(response.status).toBe(500);
    expect(response.json).toMatchObject({ code: 'runtime.response_invalid' });
  });

  it('fires the signal when the client goes away', async () => {
    aborted = Promise.withResolvers();
    const { hostname, port } = new URL(url);
    const socket = connect(Number(port), hostname);
    socket.write('GET /api/v1/slow HTTP/1.1\r\nhost: x\r\n\r\n', () => setImmediate(() => socket.destroy()));
    expect(await aborted.promise).toMatchObject({ message: 'the client has gone' });
  });

  it('records what is mounted and what has been exercised', async () => {
    await send('POST', '/api/v1/items', JSON.stringify(good));
    const report = app.coverage.report();
    expect(report.mounted).toHaveLength(10);
    expect(report.exercised).toContain('createItem');
    expect(report.unexercised).toEqual(expect.arrayContaining(['failProblem', 'slow']));
    expect(app.coverage.contracts()).toContain(createItem);
  });
});

describe('bad bodies', () => {
  it.each([
    ['{"a":tru}', 8, 'line 1, column 9'],
    ['{"a":1,}', 7, 'line 1, column 8'],
    ['{"a":1', 6, 'line 1, column 7'],
    ['{\n  "a" 1}', 8, 'line 2, column 7'],
    ['xabc', 0, 'line 1, column 1'],
  ])('names where %j stops being JSON', async (text, position, where) => {
    const response = await send('POST', '/api/v1/items', text);
    expect(response.status).toBe(400);
    expect(response.json).toMatchObject({ code: 'request.json_invalid' });
    expect(response.json.detail).toContain(
      text === '{"a":tru}' ? 'position 5 (line 1, column 6)' : `position ${position} (${where})`,
    );
  });

  it('refuses NUL characters, deep nesting and prototype keys', async () => {
    const nul = await send('POST', '/api/v1/items', '{"id":"x","tags":["a","b\\u0000"]}');
    expect(nul.json).toMatchObject({ code: 'request.nul_character', errors: [{ field: 'tags[1]' }] });
    expect((await send('GET', '/api/v1/items/%00')).json).toMatchObject({ status: 400, code: 'request.nul_character' });
    expect((await send('POST', '/api/v1/items', '['.repeat(500) + ']'.repeat(500))).json).toMatchObject({
      status: 400,
      code: 'request.too_deep',
    });
    expect((await send('POST', '/api/v1/items', '{"__proto__":{"x":1}}')).json).toMatchObject({
      status: 400,
      code: 'request.key_refused',
    });
  });

  it('answers 404, 405, 413 and 415 in the shape of the address', async () => {
    expect((await send('GET', '/api/v1/nothing')).json).toMatchObject({ status: 404, code: 'http.not_found' });
    expect((await send('GET', '/functions/v1/nothing')).json).toEqual({
      success: false,
      error: expect.stringContaining('/functions/v1/nothing'),
    });
    expect((await send('GET', '/v1/nothing')).json).toMatchObject({
      error: { type: 'invalid_request_error', param: null },
    });
    const method = await send('DELETE', '/api/v1/items');
    expect([method.status, method.headers.get('allow')]).toEqual([405, 'POST']);
    expect((await send('GET', '/v1/fail')).status).toBe(405);
    const large = await send('POST', '/v1/fail', JSON.stringify({ kind: 'x'.repeat(3_000) }));
    expect(large.json).toMatchObject({ error: { code: 'http.body_too_large' } });
    expect(large.status).toBe(413);
    // Far more than the connection buffers: the sender still gets to read why.
    for (let time = 0; time < 3; time++) {
      expect((await send('POST', '/v1/fail', JSON.stringify({ kind: 'x'.repeat(8_000_000) }))).status).toBe(413);
    }
    const type = await send('POST', '/functions/v1/fail', '<a/>', { 'content-type': 'text/xml' });
    expect([type.status, type.json]).toEqual([
      415,
      { success: false, error: expect.stringContaining('application/json') },
    ]);
    expect((await send('POST', '/api/v1/items', new FormData())).status).toBe(415);
    expect((await send('GET', '/api/v1/items/%zz')).json).toMatchObject({ status: 400, code: 'http.url_invalid' });
  });

  it('reads a multipart file and refuses JSON in its place', async () => {
    const form = new FormData();
    form.set('file', new Blob(['12345']), 'a.txt');
    expect((await send('POST', '/api/v1/upload', form)).json).toEqual({ bytes: 5, name: 'a.txt' });
    expect((await send('POST', '/api/v1/upload', '{}')).status).toBe(415);
    expect(
      (await send('POST', '/api/v1/upload', 'x', { 'content-type': 'multipart/form-data' })).status,
    ).toBeGreaterThanOrEqual(400);
  });
});

describe('errors', () => {
  it('have three shapes', async () => {
    const body = JSON.stringify({ kind: 'app' });
    const problem = await send('POST', '/api/v1/fail', body);
    expect(problem.json).toMatchObject({
      type: 'urn:tuneloop:problem:rewards.reward.not_found',
      title: 'Not Found',
      detail: 'No such reward.',
      errors: [{ field: 'id' }],
    });
    expect((await send('POST', '/functions/v1/fail', body)).json).toEqual({ success: false, error: 'No such reward.' });
    expect((await send('POST', '/v1/fail', body)).json).toEqual({
      error: {
        message: 'No such reward.',
        type: 'invalid_request_error',
        param: 'id',
        code: 'rewards.reward.not_found',
      },
    });
    expect((await send('POST', '/v1/fail', JSON.stringify({ kind: 'model' }))).json).toMatchObject({
      error: { code: 'model_not_found' },
    });
    expect((await send('POST', '/v1/fail', JSON.stringify({ kind: 'budget' }))).headers.get('x-should-retry')).toBe(
      'false',
    );
  });

  it.each([
    ['22P02', 400],
    ['22021', 400],
    ['22003', 400],
    ['23505', 409],
    ['23503', 409],
    ['40001', 503],
    ['40P01', 503],
    ['57P01', 503],
    ['08006', 503],
    ['53300', 503],
    ['42601', 500],
  ])('maps Postgres %s to %i and hides its text', async (code, status) => {
    const response = await send('POST', '/api/v1/fail', JSON.stringify({ kind: code }));
    expect(response.status).toBe(status);
    expect(response.text).not.toContain('pg says');
    expect(response.headers.has('retry-after')).toBe(status === 503);
  });

  it('hide what a bug says', async () => {
    const response = await send('POST', '/v1/fail', JSON.stringify({ kind: 'bug' }));
    expect(response.status).toBe(500);
    expect(response.text).not.toContain('secret detail');
    expect(response.json).toMatchObject({ error: { type: 'server_error' } });
  });
});
