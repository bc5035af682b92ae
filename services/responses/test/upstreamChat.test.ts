import {
  createPrompt,
  deleteModelAlias,
  getPrompt,
  getResponse,
  listModelAliases,
  listResponses,
  putModelAlias,
} from '@tuneloop/contracts/responses/http';
import { findResponseByCompletion, generate } from '@tuneloop/contracts/responses/internal';
import { newId } from '@tuneloop/runtime/ids';
import { eventually } from '@tuneloop/testkit/eventually';
import { startTestService, type TestSystem } from '@tuneloop/testkit/service';
import OpenAI, { APIError } from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { responsesService } from '../src/service.ts';
import { LoopbackUpstream } from './upstream.ts';

const upstream = new LoopbackUpstream();
let system: TestSystem;
let projectId: string;
let client: OpenAI;
const messages = [{ role: 'user' as const, content: 'hello' }];

beforeAll(async () => {
  await upstream.start();
  system = await startTestService(responsesService, {
    env: {
      UPSTREAM_BASE_URL: upstream.url,
      UPSTREAM_API_KEY: 'sk-theirs',
      UPSTREAM_PRICE_INPUT_USD: '2',
      UPSTREAM_PRICE_OUTPUT_USD: '10',
    },
    logLevel: 'fatal',
  });
  projectId = await system.project();
  client = await sdk(projectId);
});
afterAll(async () => {
  await system.stop();
  await upstream.stop();
});
beforeEach(() => {
  upstream.requests.length = 0;
  upstream.refuse = undefined;
  upstream.hold = undefined;
});

async function sdk(project: string): Promise<OpenAI> {
  const token = (await system.authorization({ projectId: project })).replace('Bearer ', '');
  return new OpenAI({ baseURL: `${system.url('responses')}/v1`, apiKey: token, maxRetries: 0 });
}

interface TraceLine {
  status: string;
  completion_tokens: number;
  cost_usd: number;
  error: string | null;
}
async function traceOf(completionId: string): Promise<TraceLine | undefined> {
  const rows = await system.sql<TraceLine>(
    'SELECT status, completion_tokens, cost_usd, error FROM responses.traces WHERE id = $1',
    [completionId.replace('chatcmpl-', '')],
  );
  return rows[0];
}
const recordOf = (completionId: string, project = projectId) =>
  system.call<{ response_text: string; model_id: string; prompt: string; user_id: string; metadata: object }>(
    findResponseByCompletion,
    { query: { completion_id: completionId, choice: 0 } },
    { projectId: project },
  );
async function unrecorded(): Promise<number> {
  const text = await (await fetch(new URL('/metrics', system.url('responses')))).text();
  return [...text.matchAll(/^tuneloop_unrecorded_completions_total\{[^}]*\} (\d+)/gm)].reduce(
    (sum, hit) => sum + Number(hit[1]),
    0,
  );
}

describe('an upstream behind a name', () => {
  it('answers, is recorded, counted and paid for', async () => {
    const answer = await client.chat.completions.create({
      model: 'big-model',
      messages,
      user: 'ann',
      metadata: { brand: 'acme' },
      tools: [{ type: 'function', function: { name: 'f', parameters: {} } }],
    });
    expect(answer.id).toMatch(/^chatcmpl-[0-9a-f-]{36}$/);
    expect(answer.model).toBe('big-model');
    const [sent] = upstream.requests;
    expect(sent).toMatchObject({ path: '/v1/chat/completions', authorization: 'Bearer sk-theirs' });
    expect(sent?.body).toMatchObject({ model: 'big-model', messages, tools: [{ type: 'function' }], user: 'ann' });
    expect(Object.keys(sent?.body ?? {})).not.toContain('metadata');
    const record = await recordOf(answer.id);
    expect(record.body).toMatchObject({
      response_text: answer.choices[0]?.message.content,
      prompt: 'hello',
      user_id: 'ann',
      model_id: 'big-model',
      brand: 'acme',
      purpose: 'production',
      completion_id: answer.id,
      choice: 0,
    });
    expect(await traceOf(answer.id)).toMatchObject({ status: 'done', completion_tokens: 500, cost_usd: 0.007 });
    const events = await system.sql<{ type: string }>(
      `SELECT headers->>'ce-type' AS type FROM responses.outbox
       WHERE body->>'completion_id' = $1 OR body->>'generation_id' = $2 ORDER BY seq`,
      [answer.id, answer.id.replace('chatcmpl-', '')],
    );
    expect(events.map((row) => row.type)).toEqual(['tuneloop.response.created', 'tuneloop.usage.recorded']);
  });

  it('streams; the answer can be found when the stream ends', async () => {
    const stream = await client.chat.completions.create({ model: 'big-model', messages, stream: true });
    let id = '';
    let text = '';
    let foundAtEnd = 0;
    for await (const chunk of stream) {
      id = chunk.id;
      text += chunk.choices[0]?.delta.content ?? '';
      expect(chunk.model).toBe('big-model');
      expect(chunk.usage ?? null).toBeNull();
      if (chunk.choices[0]?.finish_reason) foundAtEnd = (await recordOf(id)).status;
    }
    expect(foundAtEnd).toBe(200);
    expect((await recordOf(id)).body.response_text).toBe(text);
    const counted = await client.chat.completions.create({
      model: 'big-model',
      messages,
      stream: true,
      stream_options: { include_usage: true },
    });
    const usages: unknown[] = [];
    for await (const chunk of counted) if (chunk.usage) usages.push(chunk.usage);
    expect(usages).toEqual([{ prompt_tokens: 1000, completion_tokens: 500, total_tokens: 1500 }]);
  });

  it('is cut off upstream and recorded as cut off when the reader goes away', async () => {
    const gate = Promise.withResolvers<void>();
    upstream.hold = gate.promise;
    const before = upstream.aborted;
    const stream = await client.chat.completions.create({ model: 'big-model', messages, stream: true });
    let id = '';
    for await (const chunk of stream) {
      id = chunk.id;
      if (chunk.choices[0]?.delta.content) break;
    }
    stream.controller.abort();
    await eventually(() => upstream.aborted === before + 1);
    gate.resolve();
    await eventually(async () => expect(await traceOf(id)).toMatchObject({ status: 'cut_off' }));
    expect((await recordOf(id)).status).toBe(404);
  });

  it('is recorded whole, and told of clipped, when the conversation is too long for an event', async () => {
    const long = 'word '.repeat(30_000);
    const answer = await client.chat.completions.create({
      model: 'big-model',
      messages: [
        { role: 'system', content: long },
        { role: 'user', content: long },
      ],
    });
    expect((await recordOf(answer.id)).body).toMatchObject({
      prompt: long,
      messages: [{ role: 'system', content: long }, {}],
    });
    const [event] = await system.sql<{ body: { messages: null; prompt: string; metadata: object } }>(
      `SELECT body FROM responses.outbox WHERE body->>'completion_id' = $1`,
      [answer.id],
    );
    expect(event?.body).toMatchObject({ messages: null, metadata: { clipped: true } });
    expect(long.startsWith(event?.body.prompt ?? 'x')).toBe(true);
  });

  it('shows its trace beside the answer', async () => {
    const answer = await client.chat.completions.create({ model: 'big-model', messages });
    const { body } = await system.call<{ data: { response_id: string }[] }>(
      listResponses,
      { query: { limit: 1 } },
      { projectId },
    );
    const got = await system.call(getResponse, { params: { id: body.data[0]!.response_id } }, { projectId });
    expect(got.body).toMatchObject({
      completion_id: answer.id,
      trace: {
        kind: 'chat',
        status: 'done',
        provider: 'upstream',
        model: 'big-model',
        completion_tokens: 500,
        error: null,
      },
    });
  });

  it('is not recorded with store: false, but counted', async () => {
    const answer = await client.chat.completions.create({ model: 'big-model', messages, store: false });
    expect((await recordOf(answer.id)).status).toBe(404);
    expect(await traceOf(answer.id)).toMatchObject({ status: 'done', completion_tokens: 500 });
  });

  it.each([
    [
      { status: 400, error: { message: 'bad temperature', param: 'temperature', code: 'invalid_value' } },
      400,
      'invalid_value',
    ],
    [
      { status: 401, error: { message: 'wrong key sk-theirs', code: 'invalid_api_key' } },
      502,
      'responses.provider.refused',
    ],
    [{ status: 429, error: { message: 'slow down', code: 'rate_limit_exceeded' } }, 429, 'rate_limit_exceeded'],
    [{ status: 500, error: { message: 'oops' } }, 503, 'responses.provider.failed'],
  ])('passes on a refusal: %j', async (refuse, status, code) => {
    upstream.refuse = refuse;
    for (const stream of [false, true]) {
      const failed = await client.chat.completions.create({ model: 'big-model', messages, stream }).then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(failed).toBeInstanceOf(APIError);
      expect(failed).toMatchObject({ status, code });
      expect(JSON.stringify(failed)).not.toContain('sk-theirs');
    }
    const failures = await system.sql<{ n: number }>(
      `SELECT count(*)::int AS n FROM responses.traces WHERE status = 'open'`,
    );
    expect(failures[0]?.n).toBe(0);
  });

  it('refuses an unknown name with a list of what there is', async () => {
    const failed = await client.chat.completions.create({ model: 'gpt-9', messages }).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(failed).toMatchObject({ status: 404, code: 'model_not_found', param: 'model' });
    expect(String(failed)).toContain('big-model');
    expect(upstream.requests).toHaveLength(0);
  });

  it('follows an alias, lists it, and forgets it', async () => {
    const alias = 'gpt-4o-mini-2024-07-18';
    const put = (target: unknown, name = alias) =>
      system.call(putModelAlias, { params: { alias: name }, body: { target } }, { projectId });
    expect((await put({ kind: 'upstream', model: 'big-model' })).status).toBe(200);
    const answer = await client.chat.completions.create({ model: alias, messages });
    expect(answer.model).toBe(alias);
    expect(upstream.requests.at(-1)?.body.model).toBe('big-model');
    const models = await client.models.list();
    expect(models.data.map((model) => model.id)).toEqual(expect.arrayContaining([alias, 'big-model', 'nano']));
    expect((await client.models.retrieve(alias)).id).toBe(alias);
    expect((await system.call<{ data: unknown[] }>(listModelAliases, {}, { projectId })).body.data).toHaveLength(1);
    await expect(client.models.delete(alias)).rejects.toMatchObject({ status: 403 });
    expect((await put({ kind: 'checkpoint', checkpoint_id: newId() }, 'x')).status).toBe(404);
    expect((await put({ kind: 'nonsense' })).status).toBe(400);
    expect((await put({ kind: 'base', model: 'a' }, 'nano:base')).status).toBe(400);
    expect((await system.call(deleteModelAlias, { params: { alias } }, { projectId })).status).toBe(200);
    await expect(client.chat.completions.create({ model: alias, messages })).rejects.toMatchObject({ status: 404 });
  });

  it.each([
    [{ messages: undefined }, 'messages'],
    [{ messages: 'hi' }, 'messages'],
    [{ messages: [{ role: 'wizard', content: 'x' }] }, 'messages[0].role'],
    [{ n: 1.5 }, 'n'],
    [{ stop: [1] }, 'stop[0]'],
    [{ metadata: { a: 1 } }, 'metadata.a'],
    [{ stream: 'yes' }, 'stream'],
  ])('refuses %j with the parameter named', async (change, param) => {
    const answer = await fetch(`${system.url('responses')}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: await system.authorization({ projectId }), 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'big-model', messages, ...change }),
    });
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ error: { type: 'invalid_request_error', param } });
  });

  it('answers other services without recording, whatever the number of items', async () => {
    const items = Array.from({ length: 20 }, (_, i) => ({
      key: `k${i}`,
      messages: [{ role: 'user', content: `q${i}` }],
    }));
    const answer = await system.call<{ items: { key: string; choices: { text: string }[] }[] }>(
      generate,
      {
        body: { target: { base_model: 'big-model', checkpoint_id: null, storage_key: null }, items, purpose: 'judge' },
      },
      { projectId },
    );
    expect(answer.body.items.map((item) => item.key)).toEqual(items.map((item) => item.key));
    expect(new Set(answer.body.items.map((item) => item.choices[0]?.text)).size).toBe(20);
    const rows = await system.sql<{ completion_tokens: number; status: string }>(
      `SELECT completion_tokens, status FROM responses.traces WHERE kind = 'generate' AND project_id = $1`,
      [projectId],
    );
    expect(rows).toEqual([{ completion_tokens: 10_000, status: 'done' }]);
    const recorded = await system.sql(`SELECT 1 FROM responses.responses WHERE prompt = 'q1'`);
    expect(recorded).toHaveLength(0);
  });
});

describe('candidates from an upstream', () => {
  it('are stored once when a worker was taken over, and the late one changes nothing', async () => {
    const own = await system.project({ model: 'big-model', candidates: 1 });
    const gate = Promise.withResolvers<void>();
    upstream.hold = gate.promise;
    const { body: asked } = await system.call<{ id: string }>(
      createPrompt,
      { body: { text: 'hello' } },
      { projectId: own },
    );
    await eventually(() => upstream.requests.length === 1);
    await system.sql(`UPDATE responses.generation_jobs SET lease_until = now() - interval '1 second' WHERE id = $1`, [
      asked.id,
    ]);
    await eventually(() => upstream.requests.length === 2);
    gate.resolve();
    await eventually(async () => {
      const traces = await system.sql<{ status: string }>(
        'SELECT status FROM responses.traces WHERE prompt_id = $1 ORDER BY started_at',
        [asked.id],
      );
      expect(traces.map((row) => row.status)).toEqual(['cut_off', 'done']);
    });
    const { body: prompt } = await system.call<{ status: string; responses: object[] }>(
      getPrompt,
      { params: { id: asked.id } },
      { projectId: own },
    );
    expect(prompt).toMatchObject({ status: 'done', responses: [{ model_id: 'big-model' }] });
    const told = await system.sql(`SELECT 1 FROM responses.outbox WHERE body->>'prompt_id' = $1`, [asked.id]);
    expect(told).toHaveLength(1);
  });

  it('are asked for again when fewer came than were wanted', async () => {
    const own = await system.project({ model: 'big-model', candidates: 3 });
    const { body: asked } = await system.call<{ id: string }>(
      createPrompt,
      { body: { text: 'three' } },
      { projectId: own },
    );
    // This upstream gives one choice whatever n is.
    await eventually(async () => {
      const { body } = await system.call<{ status: string; responses: object[] }>(
        getPrompt,
        { params: { id: asked.id } },
        { projectId: own },
      );
      expect(body).toMatchObject({ status: 'done' });
      expect(body.responses).toHaveLength(3);
    });
    expect(upstream.requests.map((request) => request.body.n)).toEqual([3, 2, 1]);
  });
});

describe('trouble', () => {
  it('sends the answer when it cannot be stored, says so, counts it, and the sweeper ends the trace', async () => {
    const before = await unrecorded();
    system.faults.arm('chat.before_commit', 'throw');
    const answer: OpenAI.ChatCompletion & { tuneloop?: { recorded: boolean } } = await client.chat.completions.create({
      model: 'big-model',
      messages,
    });
    expect(answer.tuneloop).toMatchObject({ recorded: false });
    expect(await unrecorded()).toBe(before + 1);
    expect((await recordOf(answer.id)).status).toBe(404);
    expect(await traceOf(answer.id)).toMatchObject({ status: 'open' });
    await system.sql(`UPDATE responses.traces SET started_at = now() - interval '1 hour' WHERE status = 'open'`);
    await system.restart('responses');
    await eventually(async () => expect(await traceOf(answer.id)).toMatchObject({ status: 'cut_off' }));
  });

  it('lets upstream completions through while Postgres is away, marked and counted, and records again after', async () => {
    const alias = 'house-model';
    await system.call(
      putModelAlias,
      { params: { alias }, body: { target: { kind: 'upstream', model: 'big-model' } } },
      { projectId },
    );
    await client.chat.completions.create({ model: alias, messages });
    const [{ name } = { name: '' }] = await system.sql<{ name: string }>('SELECT current_database() AS name');
    const before = await unrecorded();
    // Superusers, as this test is one, are not counted in the limit.
    await system.sql(`ALTER DATABASE "${name}" CONNECTION LIMIT 0`);
    await system.sql(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tl_responses' AND datname = $1`,
      [name],
    );
    try {
      for (const model of [alias, 'big-model']) {
        const answer: OpenAI.ChatCompletion & { tuneloop?: { recorded: boolean } } =
          await client.chat.completions.create({ model, messages });
        expect(answer.tuneloop).toMatchObject({ recorded: false });
        const stream = await client.chat.completions.create({ model, messages, stream: true });
        let text = '';
        for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
        expect(text).not.toBe('');
      }
      expect(upstream.requests.every((request) => request.body.model === 'big-model')).toBe(true);
      expect(await unrecorded()).toBe(before + 4);
    } finally {
      await system.sql(`ALTER DATABASE "${name}" CONNECTION LIMIT -1`);
    }
    await eventually(async () => {
      const answer = await client.chat.completions.create({ model: alias, messages });
      expect((await recordOf(answer.id)).status).toBe(200);
    });
  });
});
