import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ADAPTER_KEY_HEADER } from '@tuneloop/contracts/responses/serve';
import { createSampler } from '@tuneloop/engine/sample/sampler';
import type { LoraWeights, ModelConfig } from '@tuneloop/engine/types';
import { deriveSigningKey } from '@tuneloop/runtime/auth/keys';
import { signServiceToken } from '@tuneloop/runtime/auth/tokens';
import type { BlobStore } from '@tuneloop/runtime/blobs/blobStore';
import { openBlobStore } from '@tuneloop/runtime/blobs/open';
import { newId } from '@tuneloop/runtime/ids';
import { createLog } from '@tuneloop/runtime/log';
import { eventually } from '@tuneloop/testkit/eventually';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ServeChild, spawnServe } from '../src/serve/child.ts';
import { makeLora, makeTinyModel, storeAdapter } from './tinyModel.ts';

const SECRET = 'a-secret-for-the-serve-tests-0123456789abcdef';
const projectId = newId();
const messages = [{ role: 'user' as const, content: 'Item: mug\nColour: red' }];

let serve: ServeChild;
let blobs: BlobStore;
let blobDir: string;
let model: { folder: string; config: ModelConfig };
let lora: LoraWeights;
let client: OpenAI;

async function tokenFor(project: string): Promise<string> {
  return signServiceToken(deriveSigningKey(SECRET, 'service'), { service: 'responses', projectId: project });
}

async function post(path: string, body: unknown, headers: Record<string, string> = {}, project = projectId) {
  const answer = await fetch(new URL(path, serve.url), {
    method: 'POST',
    headers: { authorization: `Bearer ${await tokenFor(project)}`, 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  return {
    status: answer.status,
    body: (await answer.json()) as Record<string, never> & { error?: { code: string; param: string; message: string } },
  };
}

beforeAll(async () => {
  model = await makeTinyModel();
  lora = makeLora(model.config, 3);
  blobDir = await mkdtemp(join(tmpdir(), 'tuneloop-serve-'));
  const env = { BLOB_STORE: 'local', BLOB_DIR: blobDir };
  blobs = openBlobStore(env, 'trainer');
  serve = await spawnServe({
    env: {
      ...process.env,
      ...env,
      TUNELOOP_SECRET: SECRET,
      SERVE_MODELS: `nano=${model.folder}`,
      SERVE_THREADS: '1',
      SERVE_MAX_ADAPTERS: '2',
      SERVE_MAX_SEQUENCES: '64',
      LOG_LEVEL: 'fatal',
    },
    log: createLog({ level: 'silent' }),
  });
  client = new OpenAI({ baseURL: `${serve.url}/v1`, apiKey: await tokenFor(projectId), maxRetries: 0 });
});
afterAll(async () => {
  await serve.stop();
  await rm(blobDir, { recursive: true, force: true });
  await rm(model.folder, { recursive: true, force: true });
});

describe('the serve process', () => {
  it('answers the openai SDK: choices, usage, logprobs, the same again with the same seed', async () => {
    const ask = () =>
      client.chat.completions.create({
        model: 'nano',
        messages,
        n: 3,
        seed: 11,
        max_completion_tokens: 12,
        logprobs: true,
        top_logprobs: 2,
      });
    const [first, second] = [await ask(), await ask()];
    expect(first.choices).toHaveLength(3);
    expect(new Set(first.choices.map((choice) => choice.message.content)).size).toBeGreaterThan(1);
    expect(second.choices).toEqual(first.choices);
    const tokens = first.choices.flatMap((choice) => choice.logprobs?.content ?? []);
    expect(first.usage?.completion_tokens).toBe(tokens.length);
    expect(first.usage?.total_tokens).toBe(tokens.length + (first.usage?.prompt_tokens ?? 0));
    for (const token of tokens) {
      expect(token.logprob).toBeLessThanOrEqual(0);
      expect(token.top_logprobs).toHaveLength(2);
    }
  });

  it('streams the same text as it answers whole', async () => {
    const params = { model: 'nano', messages, n: 2, seed: 5, max_tokens: 16 } as const;
    const whole = await client.chat.completions.create(params);
    const stream = await client.chat.completions.create({
      ...params,
      stream: true,
      stream_options: { include_usage: true },
    });
    const texts = ['', ''];
    const ends: (string | null)[] = [];
    let chunks = 0;
    let usage: unknown;
    for await (const chunk of stream) {
      chunks++;
      usage ??= chunk.usage;
      for (const choice of chunk.choices) {
        texts[choice.index] += choice.delta.content ?? '';
        if (choice.finish_reason) ends[choice.index] = choice.finish_reason;
      }
    }
    expect(texts).toEqual(whole.choices.map((choice) => choice.message.content));
    expect(ends).toEqual(whole.choices.map((choice) => choice.finish_reason));
    expect(usage).toEqual(whole.usage);
    expect(chunks).toBeGreaterThan(6);
  });

  it('ends before a stop text and at the token bound', async () => {
    const params = { model: 'nano', messages, seed: 5, max_tokens: 24 };
    const text = (await client.chat.completions.create(params)).choices[0]?.message.content ?? '';
    const stop = text.slice(4, 7);
    const stopped = await client.chat.completions.create({ ...params, stop });
    expect(stopped.choices[0]).toMatchObject({
      finish_reason: 'stop',
      message: { content: text.slice(0, text.indexOf(stop)) },
    });
    const short = await client.chat.completions.create({ ...params, max_tokens: 2 });
    expect(short.usage?.completion_tokens).toBe(2);
    expect(short.choices[0]?.finish_reason).toBe('length');
  });

  it('holds answers to a schema, whole and in pieces', async () => {
    const schema = {
      type: 'object',
      properties: { colour: { enum: ['red', 'green'] }, stars: { type: 'integer', minimum: 1, maximum: 5 } },
      required: ['colour', 'stars'],
      additionalProperties: false,
    };
    const params = {
      ...{ model: 'nano', messages, n: 4, seed: 3, max_tokens: 150, logprobs: true },
      response_format: { type: 'json_schema', json_schema: { name: 'review', strict: true, schema } },
    } as const;
    const whole = await client.chat.completions.create(params);
    for (const { message, finish_reason } of whole.choices) {
      expect(finish_reason).toBe('stop');
      expect(JSON.parse(message.content!)).toEqual({
        colour: expect.stringMatching(/^(red|green)$/),
        stars: expect.toSatisfy((stars) => Number.isInteger(stars) && stars >= 1 && stars <= 5),
      });
    }
    expect(new Set(whole.choices.map(({ message }) => message.content)).size).toBeGreaterThan(1);
    const texts = ['', '', '', ''];
    for await (const chunk of await client.chat.completions.create({ ...params, stream: true })) {
      for (const choice of chunk.choices) texts[choice.index] += choice.delta.content ?? '';
    }
    expect(texts).toEqual(whole.choices.map(({ message }) => message.content));
  });

  it('loads an adapter by its key and answers with exactly its weights', async () => {
    const key = await storeAdapter(blobs, projectId, lora);
    const checkpoint = newId();
    const name = `nano:ckpt-${checkpoint}`;
    const ask = { messages, seed: 5, max_tokens: 16, temperature: 0 };
    expect((await post('/v1/chat/completions', { model: name, ...ask })).status).toBe(404);
    const base = await post('/v1/chat/completions', { model: 'nano', ...ask });
    const tuned = await post('/v1/chat/completions', { model: name, ...ask }, { [ADAPTER_KEY_HEADER]: key });
    expect(tuned.status).toBe(200);
    const listed = await client.models.list();
    expect(listed.data.map((entry) => entry.id)).toContain(name);

    const { loadModelFolder } = await import('@tuneloop/engine/weights/loadModel');
    const { loadTokenizerFolder } = await import('@tuneloop/engine/tokenizer/tokenizer');
    const { createChatFormat } = await import('@tuneloop/engine/chat/chatFormat');
    const tokenizer = await loadTokenizerFolder(model.folder);
    const sampler = createSampler({ model: await loadModelFolder(model.folder), tokenizer });
    sampler.addAdapter('a', lora);
    const prompt = createChatFormat({ tokenizer }).encodePrompt(messages);
    const expected = await sampler.generate({ prompt, adapter: 'a', maxTokens: 16, temperature: 0 });
    const plain = await sampler.generate({ prompt, maxTokens: 16, temperature: 0 });
    await sampler.close();
    expect(tuned.body).toMatchObject({ model: name, choices: [{ message: { content: expected.text } }] });
    expect(base.body).toMatchObject({ choices: [{ message: { content: plain.text } }] });
    expect(expected.text).not.toBe(plain.text);
  });

  it('keeps a bounded number of adapters and brings an evicted one back', async () => {
    const keys = await Promise.all(
      [20, 21, 22].map((seed) => storeAdapter(blobs, projectId, makeLora(model.config, seed))),
    );
    const ids = keys.map(() => newId());
    for (const round of [0, 1]) {
      for (const [i, key] of keys.entries()) {
        const answer = await post('/internal/serve/adapters', {
          base_model: 'nano',
          checkpoint_id: ids[i],
          storage_key: key,
        });
        expect({ round, ...answer }).toMatchObject({ status: 200, body: { model: `nano:ckpt-${ids[i]}` } });
        const listed = await client.models.list();
        expect(listed.data.length).toBeLessThanOrEqual(3);
      }
    }
  });

  it('refuses artefacts that are not what they say', async () => {
    const wide = { ...model.config, hiddenSize: 64, intermediateSize: 128 };
    const cases: [string, string, number][] = [
      ['another base', await storeAdapter(blobs, projectId, lora, (m) => ({ ...m, base_model: 'other' })), 422],
      ['no files', await storeAdapter(blobs, projectId, lora, (m) => ({ ...m, files: {} })), 422],
      ['not a manifest', (await blobs.put(projectId, Buffer.from('{}'))).key, 422],
      ['not JSON', (await blobs.put(projectId, Buffer.from('x'))).key, 422],
      ['wrong shapes', await storeAdapter(blobs, projectId, makeLora(wide, 1)), 422],
      ["another project's", await storeAdapter(blobs, newId(), lora), 422],
      ['missing', `trainer/${projectId}/aa/${'a'.repeat(64)}`, 404],
      ['a path', '../../etc/passwd', 422],
      [
        'a lying hash',
        await storeAdapter(blobs, projectId, lora, (m) => {
          const files = structuredClone(m.files) as Record<string, { sha256: string }>;
          files['adapter_model.safetensors']!.sha256 = '0'.repeat(64);
          return { ...m, files };
        }),
        422,
      ],
    ];
    for (const [what, storage_key, status] of cases) {
      const answer = await post('/internal/serve/adapters', {
        base_model: 'nano',
        checkpoint_id: newId(),
        storage_key,
      });
      expect({ what, status: answer.status }).toEqual({ what, status });
    }
    // It goes on serving.
    expect((await post('/v1/chat/completions', { model: 'nano', messages, max_tokens: 1 })).status).toBe(200);
  });

  it("never answers with another project's adapter, nor with other bytes under the same name", async () => {
    const key = await storeAdapter(blobs, projectId, lora);
    const other = await storeAdapter(blobs, projectId, makeLora(model.config, 9));
    const checkpoint_id = newId();
    const load = (storage_key: string, project?: string) =>
      post('/internal/serve/adapters', { base_model: 'nano', checkpoint_id, storage_key }, {}, project);
    expect((await load(key)).status).toBe(200);
    expect((await load(other)).status).toBe(409);
    expect((await load(key, newId())).status).toBe(404);
    const stolen = await post(
      '/v1/chat/completions',
      { model: `nano:ckpt-${checkpoint_id}`, messages, max_tokens: 1 },
      {},
      newId(),
    );
    expect(stolen.status).toBe(404);
  });

  it.each([
    [{ tools: [{ type: 'function', function: { name: 'f' } }] }, 400, 'unsupported_parameter', 'tools'],
    [{ response_format: { type: 'xml' } }, 400, 'unsupported_value', 'response_format'],
    [{ response_format: { type: 'json_schema', json_schema: { name: 'x' } } }, 400, 'invalid_value', 'response_format'],
    [
      { response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { not: {} } } } },
      400,
      'invalid_json_schema',
      'response_format',
    ],
    [{ logit_bias: { 5: 1 } }, 400, 'unsupported_parameter', 'logit_bias'],
    [{ frequency_penalty: 0.5 }, 400, 'unsupported_parameter', 'frequency_penalty'],
    [{ flavour: 1 }, 400, 'unknown_parameter', 'flavour'],
    [{ temperature: 3 }, 400, 'request.invalid', 'temperature'],
    [{ n: 0 }, 400, 'request.invalid', 'n'],
    [{ messages: [] }, 400, 'request.invalid', 'messages'],
    [
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }] },
      400,
      'unsupported_parameter',
      'messages[0].content[0]',
    ],
    [{ messages: [{ role: 'user', content: 'mug '.repeat(400) }] }, 400, 'context_length_exceeded', 'messages'],
    [{ model: 'gpt-9' }, 404, 'model_not_found', 'model'],
  ])('refuses %j with the parameter named', async (change, status, code, param) => {
    const answer = await post('/v1/chat/completions', { model: 'nano', messages, max_tokens: 2, ...change });
    expect(answer.status).toBe(status);
    expect(answer.body.error).toMatchObject({ code, param });
  });

  it('takes neutral values of what it does not have', async () => {
    const answer = await post('/v1/chat/completions', {
      model: 'nano',
      messages: [{ role: 'developer', content: [{ type: 'text', text: 'Be brief.' }] }, ...messages],
      max_tokens: 2,
      presence_penalty: 0,
      response_format: { type: 'text' },
      tools: null,
    });
    expect(answer.status).toBe(200);
  });

  it('is for services only', async () => {
    const answer = await fetch(new URL('/v1/models', serve.url));
    expect(answer.status).toBe(401);
    expect((await fetch(new URL('/readyz', serve.url))).status).toBe(200);
  });

  it('refuses what does not fit into its queue with 429, and answers when there is room', async () => {
    const ask = { model: 'nano', messages, n: 32, max_tokens: 200, stop: null };
    const answers = await Promise.all([1, 2, 3].map((seed) => post('/v1/chat/completions', { ...ask, seed })));
    const statuses = answers.map((answer) => answer.status).toSorted((a, b) => a - b);
    expect(statuses).toEqual([200, 200, 429]);
    expect((await post('/v1/chat/completions', { ...ask, n: 1 })).status).toBe(200);
  });

  it('frees the queue when a client goes away in the middle', async () => {
    const abort = new AbortController();
    const stream = await client.chat.completions.create(
      { model: 'nano', messages, n: 32, max_tokens: 200, stream: true, seed: 1 },
      { signal: abort.signal },
    );
    for await (const chunk of stream) {
      if (chunk.choices.length > 0) break;
    }
    abort.abort();
    await eventually(async () => {
      const text = await (await fetch(new URL('/metrics', serve.url))).text();
      expect(text).toMatch(/tuneloop_serve_sequences\{[^}]*model="nano"[^}]*\} 0/);
    });
  });

  it('comes back on the same address when it is killed', async () => {
    const before = serve.pid;
    process.kill(before, 'SIGKILL');
    await eventually(async () => expect((await fetch(new URL('/readyz', serve.url))).status).toBe(200), {
      timeoutMs: 30_000,
    });
    expect(serve.pid).not.toBe(before);
    expect((await post('/v1/chat/completions', { model: 'nano', messages, max_tokens: 1 })).status).toBe(200);
  });
});
