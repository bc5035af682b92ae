import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { defineRoute } from '@tuneloop/contracts/route';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { createAuthenticator } from './auth/verifier.ts';
import { createCallers } from './callers.ts';
import type { Callers } from './callers.ts';
import { AppError } from './errors.ts';
import { createHttpApp } from './http/app.ts';
import type { HttpApp } from './http/app.ts';
import { mountRoute } from './http/mountRoute.ts';
import { newId } from './ids.ts';
import { createLog } from './log.ts';
import { createMetrics } from './metrics.ts';
import type { Tx } from './pg/database.ts';
import { runWithTrace, startTrace } from './trace.ts';

const SECRET = 'a secret for tests that is long enough to be one';
const project = newId();
const base = { service: 'datasets', scope: 'service', summary: 'test' } as const;
const echo = defineRoute({
  ...base,
  operationId: 'echo',
  method: 'POST',
  path: '/internal/datasets/{name}/echo',
  params: z.object({ name: z.string() }),
  query: z.object({ n: z.number().optional(), tag: z.array(z.string()).optional() }),
  body: z.object({ at: z.iso.datetime() }),
  response: z.object({
    name: z.string(),
    n: z.number().nullable(),
    tag: z.array(z.string()),
    at: z.string(),
    actor: z.string(),
    project: z.string(),
    correlation: z.string().nullable(),
    trace: z.string(),
  }),
});
const flaky = defineRoute({
  ...base,
  operationId: 'flaky',
  method: 'GET',
  path: '/internal/datasets/flaky',
  response: z.object({ tries: z.number() }),
});
const flakyPost = defineRoute({
  ...base,
  operationId: 'flakyPost',
  method: 'POST',
  path: '/internal/datasets/flaky',
  body: z.object({}),
  response: z.object({ tries: z.number() }),
});
const missing = defineRoute({
  ...base,
  operationId: 'missing',
  method: 'GET',
  path: '/internal/datasets/missing',
  response: z.object({}),
});
const rows = defineRoute({
  ...base,
  operationId: 'rows',
  method: 'GET',
  path: '/internal/datasets/rows',
  response: z.unknown(),
  produces: 'application/x-ndjson',
});
const hang = defineRoute({
  ...base,
  operationId: 'hang',
  method: 'GET',
  path: '/internal/datasets/hang',
  response: z.object({}),
});
const lie = defineRoute({
  ...base,
  operationId: 'lie',
  method: 'GET',
  path: '/internal/datasets/lie',
  response: z.object({ n: z.number() }),
});

const log = createLog({ level: 'silent' });
let app: HttpApp;
let callers: Callers;
let url: string;
let tries = 0;
let failures = 0;
let keys: (string | string[] | undefined)[] = [];
let gone: PromiseWithResolvers<void>;

beforeAll(async () => {
  app = await createHttpApp({
    service: 'datasets',
    log,
    metrics: createMetrics({ service: 'datasets' }),
    ready: async () => ({}),
  });
  const pg = {
    withTenant: async <T>(_p: string, work: (tx: Tx) => Promise<T>) => work({} as Tx),
    withService: async <T>(work: (tx: Tx) => Promise<T>) => work({} as Tx),
  };
  const ctx = { pg, log, auth: createAuthenticator({ service: 'datasets', secret: SECRET }) };
  mountRoute(app, ctx, echo, async ({ params, query, body, auth, correlationId, raw }) => ({
    name: params.name,
    n: query.n ?? null,
    tag: query.tag ?? [],
    at: body.at,
    actor: auth.actor,
    project: auth.projectId,
    correlation: correlationId ?? null,
    trace: raw.trace.traceId,
  }));
  const fail = async (key?: string | string[]) => {
    tries++;
    keys.push(key);
    if (tries <= failures) throw new AppError({ code: 'datasets.busy', status: 503, message: 'busy', retry: true });
    return { tries };
  };
  mountRoute(app, ctx, flaky, async () => fail());
  mountRoute(app, ctx, flakyPost, async ({ raw }) => fail(raw.headers['idempotency-key']), { transaction: false });
  mountRoute(app, ctx, missing, async () => {
    throw new AppError({ code: 'datasets.version.not_found', status: 404, message: 'No such version.', field: 'id' });
  });
  mountRoute(app, ctx, rows, async () => Readable.from(['{"a":1}\n', '{"a":2}\n']), { transaction: false });
  mountRoute(app, ctx, hang, async ({ signal }) => {
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    gone.resolve();
    return {};
  });
  app.get('/internal/datasets/lie', async () => ({ n: 'many' }));
  url = await app.listen({ port: 0, host: '127.0.0.1' });
  callers = createCallers({
    urls: { datasets: url, serve: 'http://127.0.0.1:1' },
    service: 'trainer',
    serviceSecret: SECRET,
    log,
  });
});
afterAll(async () => {
  await callers?.close();
  await app?.close();
});
beforeEach(() => {
  tries = 0;
  failures = 0;
  keys = [];
  gone = Promise.withResolvers();
});

async function failure(promise: Promise<unknown>): Promise<AppError> {
  const error: unknown = await promise.then(
    () => new Error('it succeeded'),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof AppError)) throw error;
  return error;
}

describe('a call', () => {
  it('carries input, project, actor, correlation and trace', async () => {
    const trace = startTrace();
    const at = new Date();
    const correlationId = newId();
    const answer = await runWithTrace(trace, () =>
      callers.call(
        echo,
        { params: { name: 'a/b ü' }, query: { n: 3, tag: ['x', 'y&z'] }, body: { at } },
        { projectId: project, actor: 'user:u1', correlationId },
      ),
    );
    expect(answer).toEqual({
      name: 'a/b ü',
      n: 3,
      tag: ['x', 'y&z'],
      at: at.toISOString(),
      actor: 'user:u1',
      project,
      correlation: correlationId,
      trace: trace.traceId,
    });
    const plain = await callers.call(echo, { params: { name: 'n' }, body: { at } }, { projectId: project });
    expect(plain).toMatchObject({ actor: 'service:trainer', n: null, tag: [], correlation: null });
  });

  it("finds the caller's own mistakes before sending", async () => {
    const error = await failure(
      callers.call(echo, { params: { name: 'n' }, body: { at: 'noon' } }, { projectId: project }),
    );
    expect([error.code, error.retry]).toEqual(['runtime.call.input_invalid', false]);
    expect((await failure(callers.call({ ...flaky, service: 'rewards' }, {}, { projectId: project }))).code).toBe(
      'runtime.call.no_address',
    );
  });

  it("gives the other side's refusals back as they are", async () => {
    expect(await failure(callers.call(missing, {}, { projectId: project }))).toMatchObject({
      status: 404,
      code: 'datasets.version.not_found',
      message: 'No such version.',
      field: 'id',
      retry: false,
    });
  });

  it('does not take an answer that breaks the contract', async () => {
    expect(await failure(callers.call(lie, {}, { projectId: project }))).toMatchObject({
      code: 'runtime.call.answer_invalid',
      retry: false,
    });
  });

  it("keeps a refused service token from looking like the caller's", async () => {
    const stranger = createCallers({
      urls: { datasets: url },
      service: 'trainer',
      serviceSecret: 'another secret of sufficient length!!',
      log,
    });
    expect(await failure(stranger.call(flaky, {}, { projectId: project }))).toMatchObject({
      code: 'runtime.call.refused',
      status: 500,
    });
    await stranger.close();
  });
});

describe('retries', () => {
  it('repeat reads, a bounded number of times', async () => {
    failures = 2;
    expect(await callers.call(flaky, {}, { projectId: project })).toEqual({ tries: 3 });
    tries = 0;
    failures = 100;
    expect(await failure(callers.call(flaky, {}, { projectId: project }))).toMatchObject({
      status: 503,
      code: 'datasets.busy',
      retry: true,
    });
    expect(tries).toBe(4);
  });

  it('repeat a POST only under a key, with the same key', async () => {
    failures = 2;
    expect((await failure(callers.call(flakyPost, { body: {} }, { projectId: project }))).code).toBe('datasets.busy');
    expect(tries).toBe(1);
    tries = 0;
    keys = [];
    expect(await callers.call(flakyPost, { body: {} }, { projectId: project, idempotencyKey: 'k-1' })).toEqual({
      tries: 3,
    });
    expect(keys).toEqual(['k-1', 'k-1', 'k-1']);
  });

  it('end as a retryable 503 when no one listens', async () => {
    expect(await failure(callers.call(flakyPost, { body: {} }, { projectId: project, target: 'serve' }))).toMatchObject(
      { status: 503, code: 'runtime.call.unreachable', retry: true },
    );
  });
});

describe('limits', () => {
  it('give up in time, and the other side learns of it', async () => {
    const error = await failure(callers.call(hang, {}, { projectId: project, timeoutMs: 100 }));
    expect([error.status, error.retry]).toEqual([503, true]);
    await gone.promise;
  });

  it("follow the caller's signal", async () => {
    const abort = new AbortController();
    const call = callers.call(hang, {}, { projectId: project, signal: abort.signal });
    abort.abort();
    expect((await failure(call)).code).toBe('runtime.call.aborted');
  });
});

it('raw gives the stream as it comes', async () => {
  const { status, headers, body } = await callers.raw(rows, {}, { projectId: project });
  expect([status, headers['content-type']]).toEqual([200, 'application/x-ndjson']);
  expect(await text(body)).toBe('{"a":1}\n{"a":2}\n');
  expect((await failure(callers.raw(missing, {}, { projectId: project }))).status).toBe(404);
});
