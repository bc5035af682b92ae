import {
  createApiKey,
  getMe,
  getProject,
  jwks,
  listAuditLog,
  listDeadLetters,
  revokeApiKey,
  updateProject,
} from '@tuneloop/contracts/gateway/http';
import { bootstrapProject } from '@tuneloop/contracts/gateway/internal';
import { createRetrainingRequest, getSchedule, listRetrainingRuns } from '@tuneloop/contracts/scheduler/http';
import { newId } from '@tuneloop/runtime/ids';
import { defineService } from '@tuneloop/runtime/service';
import { eventually } from '@tuneloop/testkit/eventually';
import { startTestSystem, type TestSystem } from '@tuneloop/testkit/service';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { gatewayService } from '../src/service.ts';

/** A neighbour whose routes the gateway passes on: answers what it was sent and as whom. */
const neighbour = defineService({
  name: 'scheduler',
  migrations: new URL('./neighbour/', import.meta.url),
  config: z.object({}),
  create: () => ({
    routes: (app, ctx) => {
      app.get('/api/v1/schedule', async (request) => {
        const auth = await ctx.auth.authenticate(request.headers);
        return { auth, headers: request.headers, query: request.query };
      });
      app.post('/api/v1/retraining-requests', async (request, reply) =>
        reply.status(201).header('x-from', 'neighbour').send({ body: request.body }),
      );
      app.get('/api/v1/retraining-runs', async () => {
        throw new Error('boom');
      });
    },
    handlers: [],
  }),
});

let system: TestSystem;
let projectId: string;
let ownerKey: string;

async function get(
  path: string,
  key: string,
  init: Omit<RequestInit, 'headers'> & { headers?: Readonly<Record<string, string>> } = {},
): Promise<Response> {
  return fetch(`${system.url('gateway')}${path}`, {
    ...init,
    headers: { authorization: `Bearer ${key}`, ...init.headers },
  });
}

async function bootstrap(slug: string): Promise<{ projectId: string; key: string }> {
  const id = newId();
  const answer = await system.call<{ api_key: string }>(
    bootstrapProject,
    { body: { project_id: id, slug, name: slug, make_key: true } },
    { projectId: id },
  );
  expect(answer.status).toBe(200);
  return { projectId: id, key: answer.body.api_key };
}

beforeAll(async () => {
  system = await startTestSystem([gatewayService, neighbour]);
  ({ projectId, key: ownerKey } = await bootstrap('first'));
});
afterAll(() => system.stop());

describe('keys', () => {
  it('say who they are, by role, and stop working when revoked', async () => {
    const made = await get(createApiKey.path, ownerKey, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ name: 'anna', role: 'reviewer' }),
    });
    expect(made.status).toBe(201);
    const reviewer = (await made.json()) as { id: string; key: string; review_path: string };
    expect(reviewer.review_path).toBe(`/review#key=${reviewer.key}`);
    const me = (await (await get(getMe.path, reviewer.key)).json()) as {
      role: string;
      scopes: string[];
      project_id: string;
    };
    expect(me).toMatchObject({ role: 'reviewer', scopes: ['read', 'feedback'], project_id: projectId });
    expect((await get(listAuditLog.path, reviewer.key)).status).toBe(403);
    const revoked = await get(revokeApiKey.path.replace('{id}', reviewer.id), ownerKey, { method: 'DELETE' });
    expect(revoked.status).toBe(200);
    await eventually(async () => expect((await get(getMe.path, reviewer.key)).status).toBe(401), { timeoutMs: 20_000 });
    const audit = (await (await get(listAuditLog.path, ownerKey)).json()) as { data: { action: string }[] };
    expect(audit.data.map((entry) => entry.action)).toContain('api_key.revoked');
  });

  it('are stored only as a keyed hash', async () => {
    const rows = await system.sql<{ row: string }>('SELECT k::text AS row FROM gateway.api_keys k');
    expect(rows.length).toBeGreaterThan(0);
    expect(rows.some((row) => row.row.includes(ownerKey.split('_').slice(2).join('_')))).toBe(false);
  });

  it.each([
    ['no key at all', ''],
    ['a key that is not one', 'tl_nonsense'],
    ['a well-formed unknown key', `tl_abcdefgh_${'a'.repeat(43)}`],
    ['a token without signature', 'eyJhbGciOiJub25lIn0.e30.'],
  ])('%s gets 401 as a problem document', async (_name, key) => {
    const answer = await fetch(`${system.url('gateway')}${getMe.path}`, key ? { headers: { apikey: key } } : {});
    expect(answer.status).toBe(401);
    expect(answer.headers.get('content-type')).toContain('application/problem+json');
  });
});

describe('project', () => {
  it('changes only from the version that was read, and tells everyone', async () => {
    const read = await get(getProject.path, ownerKey);
    const etag = read.headers.get('etag')!;
    const change = (ifMatch?: string): Promise<Response> =>
      get(updateProject.path, ownerKey, {
        method: 'PATCH',
        headers: { 'content-type': 'application/json', ...(ifMatch ? { 'if-match': ifMatch } : {}) },
        body: JSON.stringify({ settings: { candidates: 4 } }),
      });
    expect((await change()).status).toBe(428);
    const changed = await change(etag);
    expect(changed.status).toBe(200);
    expect(await changed.json()).toMatchObject({ version: 2, settings: { candidates: 4, max_tokens: 64 } });
    expect((await change(etag)).status).toBe(412);
    const rows = await system.sql<{ n: number }>(
      `SELECT count(*)::int AS n FROM gateway.outbox WHERE project_id = $1 AND subject LIKE '%project.changed.v1'`,
      [projectId],
    );
    expect(rows[0]?.n).toBe(2);
  });

  it('refuses a slug that another project has', async () => {
    const id = newId();
    const answer = await system.call<{ errors?: { field: string }[] }>(
      bootstrapProject,
      { body: { project_id: id, slug: 'first', name: 'x' } },
      { projectId: id },
    );
    expect(answer.status).toBe(409);
  });

  it('bootstraps twice as once', async () => {
    const again = await system.call<{ created: boolean }>(
      bootstrapProject,
      { body: { project_id: projectId, slug: 'first', name: 'x' } },
      { projectId },
    );
    expect(again.body.created).toBe(false);
  });
});

describe('proxy', () => {
  it('exchanges the key for a gateway token and passes query and headers on', async () => {
    const answer = await get(`${getSchedule.path}?a=1`, ownerKey);
    const body = (await answer.json()) as {
      auth: { actor: string; projectId: string };
      headers: Record<string, string>;
      query: object;
    };
    expect(body.auth.projectId).toBe(projectId);
    expect(body.auth.actor).toMatch(/^key:/);
    expect(body.query).toEqual({ a: '1' });
    expect(JSON.stringify(body.headers)).not.toContain(ownerKey);
  });

  it.each(['%ff', '../../x', 'a%2F..%2Fb', 'http://elsewhere.example//..', '100%'])(
    'passes the query %s on as it came',
    async (value) => {
      const answer = await get(`${getSchedule.path}?a=${value}`, ownerKey);
      expect(answer.status).toBe(200);
    },
  );

  it.each(['..%2f..%2fetc', 'a%2f..', '%2e%2e%2fx', '..'])('refuses the path %s', async (name) => {
    const answer = await get(`/api/v1/model-aliases/${name}`, ownerKey, { method: 'DELETE' });
    expect([400, 404, 405]).toContain(answer.status);
  });

  it('streams bodies and answers as they are', async () => {
    const answer = await get(createRetrainingRequest.path, ownerKey, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ reason: 'ä'.repeat(1000) }),
    });
    expect(answer.status).toBe(201);
    expect(answer.headers.get('x-from')).toBe('neighbour');
    expect(await answer.json()).toEqual({ body: { reason: 'ä'.repeat(1000) } });
  });

  it('passes a failure on without hiding it, and never leaks its cause', async () => {
    const answer = await get(listRetrainingRuns.path, ownerKey);
    expect(answer.status).toBe(500);
    expect(await answer.text()).not.toContain('boom');
  });

  it('answers 503 with Retry-After while a service is away', async () => {
    await system.services.get('scheduler')!.stop();
    const answer = await get(getSchedule.path, ownerKey);
    expect(answer.status).toBe(503);
    expect(answer.headers.get('retry-after')).toBe('1');
    const dead = await get(listDeadLetters.path, ownerKey);
    expect(await dead.json()).toMatchObject({ data: [], unavailable: expect.arrayContaining(['scheduler']) });
    await system.restart('scheduler');
    expect((await get(getSchedule.path, ownerKey)).status).toBe(200);
  });

  it('never passes /internal on', async () => {
    expect((await get('/internal/scheduler/dead-letters', ownerKey)).status).toBe(404);
    expect((await get('/internal/gateway/keys/verify', ownerKey, { method: 'POST' })).status).toBe(403);
  });

  it('answers a preflight of the edge functions clients', async () => {
    const answer = await fetch(`${system.url('gateway')}/functions/v1/upload`, {
      method: 'OPTIONS',
      headers: {
        origin: 'https://example.org',
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization, x-client-info, apikey, content-type',
      },
    });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('access-control-allow-origin')).toBe('*');
    for (const name of ['authorization', 'x-client-info', 'apikey', 'content-type', 'x-stainless-retry-count']) {
      expect(answer.headers.get('access-control-allow-headers')).toContain(name);
    }
  });
});

describe('open documents', () => {
  it('serves OpenAPI, its page and the public keys without credentials', async () => {
    const base = system.url('gateway');
    const openapi = (await (await fetch(`${base}/openapi.json`)).json()) as { openapi: string; paths: object };
    expect(openapi.openapi).toBe('3.1.0');
    expect(Object.keys(openapi.paths).some((path) => path.startsWith('/internal'))).toBe(false);
    expect(await (await fetch(`${base}/docs`)).text()).toContain(getMe.path);
    const keys = (await (await fetch(`${base}${jwks.path}`)).json()) as { keys: { kty: string; d?: string }[] };
    expect(keys.keys.length).toBe(2);
    expect(keys.keys.every((key) => key.kty === 'OKP' && key.d === undefined)).toBe(true);
  });
});

describe('live events', () => {
  // Seen to wait for ever once in some runs, cause not yet known: the feed may begin after the event that it waits for.
  it('reach the project they belong to, and resume after the last id', { retry: 2 }, async () => {
    const other = await bootstrap(`second-${newId().slice(-12)}`);
    const rename = async (): Promise<void> => {
      const current = await get(getProject.path, other.key);
      await get(updateProject.path, other.key, {
        method: 'PATCH',
        headers: { 'content-type': 'application/json', 'if-match': current.headers.get('etag')! },
        body: JSON.stringify({ name: `n${Date.now()}` }),
      });
    };
    // As an EventSource does: a stream that ends is opened again after the last id.
    const read = async (key: string, wanted: number, lastId?: string): Promise<{ id: string; event: string }[]> => {
      const found: { id: string; event: string }[] = [];
      let renamed = lastId !== undefined;
      for (let attempt = 0; attempt < 5; attempt++) {
        const after = found.at(-1)?.id ?? lastId;
        const answer = await get('/api/v1/events', key, {
          headers: after === undefined ? {} : { 'last-event-id': after },
        });
        const reader = answer.body!.getReader();
        let text = '';
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
          text += new TextDecoder().decode(value);
          const events = [...text.matchAll(/id: (\S+)\nevent: (\S+)/g)].map((m) => ({ id: m[1]!, event: m[2]! }));
          if (found.length + events.length >= wanted) {
            await reader.cancel();
            return [...found, ...events];
          }
          // The stream has begun: what happens from now on must be seen.
          if (!renamed && text.includes('retry:')) {
            renamed = true;
            await rename();
          }
        }
        found.push(...[...text.matchAll(/id: (\S+)\nevent: (\S+)/g)].map((m) => ({ id: m[1]!, event: m[2]! })));
      }
      throw new Error('the stream ended again and again');
    };
    const [first] = await read(other.key, 1);
    expect(first?.event).toBe('project.changed');
    const before = '00000000-0000-7000-8000-000000000000';
    const replayed = await read(other.key, 2, before);
    expect(replayed.map((event) => event.event)).toEqual(['project.changed', 'project.changed']);
    // Which of the two came first while it was listening is the relay's to decide.
    expect(replayed.map((event) => event.id)).toContain(first?.id);
  });

  it('refuses unknown types and foreign ids by name', async () => {
    expect((await get('/api/v1/events?types=nope.nope', ownerKey)).status).toBe(400);
    expect((await get('/api/v1/events', ownerKey, { headers: { 'last-event-id': 'x' } })).status).toBe(400);
  });
});
