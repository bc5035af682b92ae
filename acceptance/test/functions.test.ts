import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Answer, Door } from '../src/door.ts';
import { file, FORMATS, form, jpeg } from '../src/pictures.ts';
import { findPython, runPython } from '../src/python.ts';
import { type Stack, startStack } from '../src/stack.ts';

const AIOHTTP = '3.14.5';
const MAX_PICTURE_BYTES = 10 * 1024 * 1024;
const FN = '/functions/v1';
const uuid = expect.stringMatching(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/);

interface Upload {
  success: true;
  url: string;
  path: string;
  imageId: string;
}
interface Row {
  id: string;
  [field: string]: unknown;
}
interface One {
  success: true;
  data: Row;
}
interface Many {
  success: true;
  data: Row[];
  count: number;
  stats: Record<string, unknown>;
}

let stack: Stack;
let door: Door;

beforeAll(async () => {
  stack = await startStack({ flags: ['--empty'] });
  door = new Door(stack.url, stack.apiKey);
});
afterAll(() => stack?.stop());

/** A refusal in the edge functions' form: nothing but the flag and a text that names the field. */
function expectRefused(answer: Answer, status: number | readonly number[], field: string): void {
  expect([status].flat(), answer.text).toContain(answer.status);
  expect(answer.body).toEqual({ success: false, error: expect.stringContaining(field) });
}

async function respond(fields: Record<string, unknown> = {}): Promise<string> {
  const made = await door.post<One>(`${FN}/rft-responses`, {
    user_id: 'u',
    prompt: 'p',
    response_text: 'r',
    ...fields,
  });
  expect(made.status, made.text).toBe(200);
  return made.body.data.id;
}

interface Flow {
  client: string;
  upload: { status: number; body: Upload };
  response: { status: number; body: One };
  reward: { status: number; body: One };
  rewards: { status: number; body: Many };
  mistake: { status: number; body: unknown };
  checkpoint: { status: number; body: One };
  checkpoints: { status: number; body: Many };
}

function expectFlow(flow: Flow): void {
  expect(flow.upload).toEqual({
    status: 200,
    body: {
      success: true,
      url: expect.stringMatching(/^http/),
      path: expect.stringMatching(/^fashion\/\d+-python\.jpg$/),
      imageId: uuid,
      dbStatus: 'success',
      size: expect.any(Number),
      contentType: 'image/jpeg',
    },
  });
  expect(flow.response.body.data).toMatchObject({
    user_id: 'scraper-1',
    response_text: 'A plain jacket — größer.',
    metadata: { image: flow.upload.body.imageId },
  });
  expect(flow.reward.body.data).toMatchObject({ score: 0.5, detail: { source: 'click' } });
  expect(flow.rewards.body).toMatchObject({
    count: 1,
    data: [{ responses: { id: flow.response.body.data.id, user_id: 'scraper-1', model_id: 'gpt-vision' } }],
  });
  expect(flow.mistake).toEqual({ status: 400, body: { success: false, error: expect.stringContaining('score') } });
  expect(flow.checkpoint.body.data).toMatchObject({ version: 'py-1', is_active: false });
  expect(flow.checkpoints.body).toMatchObject({ count: 1, stats: { versions: ['py-1'] } });
}

describe('a client of the edge functions, with only the base URL changed', () => {
  it('in Python, with aiohttp where it can be had', async (test) => {
    const python = await findPython('aiohttp', AIOHTTP);
    test.skip(!python, 'there is no python3 on this machine');
    const picture = join(stack.dataDir, 'photo.jpg');
    await writeFile(picture, await jpeg(1));
    const script = fileURLToPath(new URL('../clients/scraper.py', import.meta.url));
    const flow = await runPython<Flow>(python!, script, [stack.url, stack.apiKey, picture]);
    expect(flow.client).toBe(python!.installed ? 'aiohttp' : 'urllib');
    expectFlow(flow);
  }, 180_000);

  it('with curl', async (test) => {
    const run = promisify(execFile);
    const there = await run('curl', ['--version']).catch(() => undefined);
    test.skip(!there, 'there is no curl on this machine');
    const picture = join(stack.dataDir, 'curl.jpg');
    await writeFile(picture, await jpeg(2));
    const headers = ['-H', `apikey: ${stack.apiKey}`, '-H', `Authorization: Bearer ${stack.apiKey}`];
    const { stdout } = await run('curl', [
      ...['-sS', '-w', '\n%{http_code}', '-X', 'POST', `${stack.url}${FN}/upload`, ...headers],
      ...['-F', `file=@${picture}`, '-F', 'fileName=curl.jpg', '-F', 'user_id=c', '-F', 'category=portrait'],
      ...['-F', 'metadata={"page":"home"}'],
    ]);
    const [body, status] = stdout.split('\n');
    expect(status, body).toBe('200');
    expect(JSON.parse(body!)).toMatchObject({
      success: true,
      path: expect.stringMatching(/^portrait\/\d+-curl\.jpg$/),
    });
    const sent = ['-H', 'Content-Type: application/json', '-d', '{"user_id":"c","prompt":"p","response_text":"r"}'];
    const json = await run('curl', ['-sS', '-X', 'POST', `${stack.url}${FN}/rft-responses`, ...headers, ...sent]);
    expect(JSON.parse(json.stdout)).toMatchObject({ success: true, data: { user_id: 'c', model_id: 'default' } });
  });

  it('with fetch from a page: preflight, then the call', async () => {
    const names = 'authorization, x-client-info, apikey, content-type';
    for (const [path, method] of [
      ['upload', 'POST'],
      ['rft-responses', 'PUT'],
      ['rft-rewards', 'DELETE'],
      ['rft-checkpoints', 'GET'],
    ] as const) {
      const preflight = await door.send('OPTIONS', `${FN}/${path}`, {
        key: null,
        headers: {
          origin: 'https://shop.example',
          'access-control-request-method': method,
          'access-control-request-headers': names,
        },
      });
      expect(preflight.status).toBe(200);
      expect(preflight.headers.get('access-control-allow-origin')).toBe('*');
      expect(preflight.headers.get('access-control-allow-methods')).toContain(method);
      const allowed = preflight.headers.get('access-control-allow-headers')!.split(/, */);
      expect(allowed).toEqual(expect.arrayContaining(names.split(', ')));
    }
    const answer = await door.post(
      `${FN}/rft-responses`,
      { user_id: 'u', prompt: 'p', response_text: 'r' },
      { headers: { origin: 'https://shop.example', 'x-client-info': 'supabase-js/2' } },
    );
    expect(answer.status).toBe(200);
    expect(answer.headers.get('access-control-allow-origin')).toBe('*');
    // A page must be able to read refusals too.
    const refused = await door.get(`${FN}/rft-responses`, { key: null, headers: { origin: 'https://shop.example' } });
    expectRefused(refused, 401, 'Authorization');
    expect(refused.headers.get('access-control-allow-origin')).toBe('*');
  });
});

describe('upload', () => {
  it.each(Object.entries(FORMATS))('takes %s, named by its bytes, and shows it without a key', async (type, make) => {
    // The declared type is wrong on purpose.
    const sent = form({ file: file(await make(3), 'a picture.bin', 'text/plain') });
    const answer = await door.send<Upload>('POST', `${FN}/upload`, { form: sent });
    expect(answer.status, answer.text).toBe(200);
    expect(answer.body).toEqual({
      success: true,
      url: expect.stringContaining(stack.url),
      path: expect.stringMatching(/^general\/\d+-a picture\.bin$/),
      imageId: uuid,
      dbStatus: 'success',
      size: expect.any(Number),
      contentType: type,
    });
    const shown = await fetch(answer.body.url);
    expect(shown.status).toBe(200);
    expect((await sharp(Buffer.from(await shown.arrayBuffer())).metadata()).width).toBe(96);
    const stored = await door.get<Row>(`/api/v1/images/${answer.body.imageId}`);
    expect(stored.body).toMatchObject({ user_id: 'anonymous', category: 'general', metadata: {} });
  });

  it('keeps what the form says', async () => {
    const fields = { fileName: 'Größe 1.png', user_id: 'ann', category: 'fashion', metadata: '{"tags":["a"],"n":1}' };
    const sent = form({ ...fields, file: file(await FORMATS['image/png']!(4), 'x.png') });
    const answer = await door.send<Upload>('POST', `${FN}/upload`, { form: sent });
    expect(answer.body.path).toMatch(/^fashion\/\d+-Größe 1\.png$/);
    const stored = await door.get<Row>(`/api/v1/images/${answer.body.imageId}`);
    expect(stored.body).toMatchObject({ user_id: 'ann', category: 'fashion', metadata: { tags: ['a'], n: 1 } });
  });

  const text = new TextEncoder().encode('just text');
  const cases: [string, () => Promise<FormData>, number, string][] = [
    ['no file', async () => form({ user_id: 'u' }), 400, 'file'],
    ['a text for a file', async () => form({ file: 'data' }), 400, 'file'],
    ['a file under another name', async () => form({ picture: file(await jpeg(5), 'a.jpg') }), 400, 'file'],
    ['an empty file', async () => form({ file: file(new Uint8Array(), 'a.jpg') }), 400, 'file'],
    ['text that calls itself a JPEG', async () => form({ file: file(text, 'a.jpg', 'image/jpeg') }), 415, 'file'],
    [
      'a drawing with a script in it',
      async () => form({ file: file(Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'), 'a.svg') }),
      415,
      'file',
    ],
    [
      'a JPEG that is cut off',
      async () => form({ file: file((await jpeg(6)).subarray(0, 300), 'a.jpg', 'image/jpeg') }),
      400,
      'file',
    ],
    ...['../../etc/passwd', 'a/b.jpg', 'a\\b.jpg', '..', 'x\u0001.jpg'].map(
      (name): [string, () => Promise<FormData>, number, string] => [
        `the name ${JSON.stringify(name)}`,
        async () => form({ file: file(await jpeg(7), 'a.jpg'), fileName: name }),
        400,
        'fileName',
      ],
    ),
    ['a path as category', async () => form({ file: file(await jpeg(7), 'a.jpg'), category: '../x' }), 400, 'category'],
    ['a broken metadata', async () => form({ file: file(await jpeg(7), 'a.jpg'), metadata: '{oops' }), 400, 'metadata'],
    ['a list as metadata', async () => form({ file: file(await jpeg(7), 'a.jpg'), metadata: '[1]' }), 400, 'metadata'],
    [
      'more than 10 MB',
      async () => form({ file: file(Buffer.concat([await jpeg(7), Buffer.alloc(MAX_PICTURE_BYTES)]), 'a.jpg') }),
      413,
      '10 MB',
    ],
  ];
  it.each(cases)('refuses %s and keeps nothing of it', async (_name, make, status, field) => {
    const before = await door.get<{ data: Row[] }>('/api/v1/images?limit=1');
    expectRefused(await door.send('POST', `${FN}/upload`, { form: await make() }), status, field);
    const after = await door.get<{ data: Row[] }>('/api/v1/images?limit=1');
    expect(after.body.data).toEqual(
      [{ ...before.body.data[0], ...signed(after.body.data[0]) }].slice(0, after.body.data.length),
    );
  });

  it('refuses what is no form, and other verbs', async () => {
    expectRefused(await door.post(`${FN}/upload`, { file: 'x' }), 415, 'multipart/form-data');
    expectRefused(await door.get(`${FN}/upload`), 405, 'POST');
    const raw = '--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\nno end';
    const headers = { 'content-type': 'multipart/form-data; boundary=x' };
    expectRefused(await door.send('POST', `${FN}/upload`, { raw, headers }), 400, 'body');
  });
});

/** Addresses carry a token of their own at each reading. */
function signed(row: Row | undefined): object {
  return row ? { content_url: row.content_url, content_url_expires_at: row.content_url_expires_at } : {};
}

describe('rft-responses', () => {
  it('records with defaults, lists newest first, changes and deletes', async () => {
    const user = randomUUID();
    const made = await door.post<One>(`${FN}/rft-responses`, { user_id: user, prompt: 'p', response_text: 'r1' });
    const row = { user_id: user, prompt: 'p', response_text: 'r1', model_id: 'default', metadata: {} };
    expect(made.status).toBe(200);
    expect(made.body).toEqual({ success: true, data: { id: uuid, ...row, created_at: time, updated_at: time } });
    await respond({ user_id: user, response_text: 'r2', model_id: 'm', metadata: { a: [1, null] } });
    await respond({ user_id: user, response_text: 'r3' });

    const texts = async (query: string): Promise<[unknown[], number]> => {
      const answer = await door.get<Many>(`${FN}/rft-responses?user_id=${user}${query}`);
      expect(answer.status, answer.text).toBe(200);
      return [answer.body.data.map((item) => item.response_text), answer.body.count];
    };
    expect(await texts('')).toEqual([['r3', 'r2', 'r1'], 3]);
    expect(await texts('&limit=1&offset=1')).toEqual([['r2'], 3]);
    expect(await texts('&model_id=m')).toEqual([['r2'], 1]);
    expect(await texts('&model_id=none')).toEqual([[], 0]);

    const id = made.body.data.id;
    const changed = await door.put<One>(`${FN}/rft-responses?id=${id}`, { response_text: 'r1!', metadata: { b: 1 } });
    expect(changed.body.data).toMatchObject({ ...row, response_text: 'r1!', metadata: { b: 1 } });
    const deleted = await door.delete(`${FN}/rft-responses?id=${id}`);
    expect(deleted.body).toMatchObject({ success: true });
    expect(await texts('')).toEqual([['r3', 'r2'], 2]);
    expectRefused(await door.delete(`${FN}/rft-responses?id=${id}`), 404, id);
  });

  const whole = { user_id: 'u', prompt: 'p', response_text: 'r' };
  it.each<[string, unknown, string]>([
    ['no user_id', { ...whole, user_id: undefined }, 'user_id'],
    ['no prompt', { ...whole, prompt: undefined }, 'prompt'],
    ['no response_text', { ...whole, response_text: undefined }, 'response_text'],
    ['an empty user_id', { ...whole, user_id: '' }, 'user_id'],
    ['a number as prompt', { ...whole, prompt: 1 }, 'prompt'],
    ['a text as metadata', { ...whole, metadata: 'x' }, 'metadata'],
    ['a NUL character', { ...whole, prompt: 'a\u0000b' }, 'prompt'],
    ['half a character', { ...whole, prompt: '\ud800' }, 'prompt'],
    ['a model_id without end', { ...whole, model_id: 'm'.repeat(10_000) }, 'model_id'],
    ['a list', [whole], 'body'],
    ['a text', 'hello', 'body'],
  ])('refuses %s', async (_name, body, field) => {
    expectRefused(await door.post(`${FN}/rft-responses`, body), 400, field);
  });

  it('names every missing field at once', async () => {
    const answer = await door.post<{ error: string }>(`${FN}/rft-responses`, {});
    for (const field of Object.keys(whole)) expectRefused(answer, 400, field);
  });

  it.each(['{"user_id":', '{"a":1}}', "{'a':1}", '\u0000', '{"user_id": NaN}', '['.repeat(50_000), ''])(
    'refuses broken JSON and says where',
    async (raw) => {
      const answer = await door.send<{ error: string }>('POST', `${FN}/rft-responses`, {
        raw,
        headers: { 'content-type': 'application/json' },
      });
      expectRefused(answer, 400, 'body');
    },
  );

  it.each(['%ff', '../../x', 'a//b', '100%', "'; DROP TABLE responses;--"])('finds nothing for %s', async (user) => {
    const answer = await door.get(`${FN}/rft-responses?user_id=${user}`);
    expect(answer.body).toEqual({ success: true, data: [], count: 0 });
  });

  it.each<[string, string, string, number, string]>([
    ['GET', '?limit=0', '', 400, 'limit'],
    ['GET', '?limit=abc', '', 400, 'limit'],
    ['GET', '?limit=100000', '', 400, 'limit'],
    ['GET', '?offset=-1', '', 400, 'offset'],
    ['GET', '?user_id=%00', '', 400, 'NUL'],
    ['PUT', '', '{"prompt":"x"}', 400, 'id'],
    ['PUT', '?id=x', '{"prompt":"x"}', 400, 'id'],
    ['PUT', `?id=${randomUUID()}`, '{"prompt":"x"}', 404, ''],
    ['PUT', `?id=${randomUUID()}`, '{}', 400, 'prompt'],
    ['DELETE', '', '', 400, 'id'],
    ['DELETE', '?id=1;DROP', '', 400, 'id'],
    ['PATCH', '', '{}', 405, 'PUT'],
  ])('refuses %s %s %s', async (method, query, raw, status, field) => {
    expectRefused(await door.send(method, `${FN}/rft-responses${query}`, raw ? { raw } : {}), status, field);
  });
});

describe('rft-rewards', () => {
  it('finds a response at once, keeps each post, and does the statistics', async () => {
    const response = await respond({ user_id: 'rated', model_id: 'm' });
    const posted: Row[] = [];
    for (const score of [1, -1, 0.5, 0.5, 0]) {
      const made = await door.post<One>(`${FN}/rft-rewards`, { response_id: response, score });
      expect(made.status, made.text).toBe(200);
      expect(made.body).toEqual({
        success: true,
        data: { id: uuid, response_id: response, score, detail: null, created_at: time },
      });
      posted.push(made.body.data);
    }
    expect(new Set(posted.map(({ id }) => id)).size).toBe(5);
    const list = await door.get<Many>(`${FN}/rft-rewards?response_id=${response}`);
    expect(list.body).toMatchObject({ success: true, count: 5 });
    expect(list.body.stats).toEqual({
      total_rewards: 5,
      avg_score: 0.2,
      max_score: 1,
      min_score: -1,
      score_distribution: { positive: 3, negative: 1, neutral: 1 },
    });
    expect(list.body.data.map(({ id }) => id)).toEqual(posted.map(({ id }) => id).toReversed());
    expect(list.body.data[0]).toEqual({
      ...posted.at(-1),
      responses: {
        ...{ id: response, user_id: 'rated', prompt: 'p', response_text: 'r', model_id: 'm' },
        created_at: time,
      },
    });
    const some = await door.get<Many>(
      `${FN}/rft-rewards?response_id=${response}&min_score=0&max_score=0.5&limit=2&offset=1`,
    );
    expect(some.body.count).toBe(3);
    expect(some.body.data.map(({ score }) => score)).toEqual([0.5, 0.5]);
    expect(some.body.stats).toMatchObject({ total_rewards: 3, max_score: 0.5, min_score: 0 });

    const [first, second] = posted;
    const changed = await door.put<One>(`${FN}/rft-rewards?id=${first!.id}`, { score: 0.25, detail: { why: 'typo' } });
    expect(changed.body.data).toMatchObject({ id: first!.id, score: 0.25, detail: { why: 'typo' } });
    const deleted = await door.delete(`${FN}/rft-rewards?id=${second!.id}`);
    expect(deleted.body).toEqual({ success: true, message: expect.any(String) });
    const left = await door.get<Many>(`${FN}/rft-rewards?response_id=${response}`);
    expect(left.body).toMatchObject({ count: 4, stats: { max_score: 0.5, min_score: 0 } });
  });

  it('keeps the time and the detail that are given', async () => {
    const response_id = await respond();
    const at = '2024-03-01T10:00:00.000Z';
    const made = await door.post<One>(`${FN}/rft-rewards`, {
      ...{ response_id, score: 1, detail: 'fine', created_at: at },
    });
    expect(made.body.data).toMatchObject({ detail: 'fine', created_at: at });
  });

  it('has rewards of nothing when nothing matches', async () => {
    const list = await door.get<Many>(`${FN}/rft-rewards?response_id=${randomUUID()}`);
    expect(list.body).toMatchObject({ success: true, data: [], count: 0, stats: { total_rewards: 0, avg_score: 0 } });
  });

  it.each<[string, (id: string) => unknown, number | number[], string]>([
    ['no response_id', () => ({ score: 1 }), 400, 'response_id'],
    ['no score', (response_id) => ({ response_id }), 400, 'score'],
    ['a score above 1', (response_id) => ({ response_id, score: 1.01 }), 400, 'score'],
    ['a score below -1', (response_id) => ({ response_id, score: -2 }), 400, 'score'],
    ['a score as text', (response_id) => ({ response_id, score: '1' }), 400, 'score'],
    ['a bad UUID', () => ({ response_id: 'abc', score: 1 }), [400, 404], 'response_id'],
    ['an unknown response', () => ({ response_id: randomUUID(), score: 1 }), [400, 404], 'response_id'],
    ['a day that is none', (response_id) => ({ response_id, score: 1, created_at: '31.2.' }), 400, 'created_at'],
    ['a NUL in the detail', (response_id) => ({ response_id, score: 1, detail: { a: '\u0000' } }), 400, 'detail'],
  ])('refuses %s', async (_name, body, status, field) => {
    expectRefused(await door.post(`${FN}/rft-rewards`, body(await respond())), status, field);
  });

  it.each<[string, string, string, number, string]>([
    ['GET', '?min_score=5', '', 400, 'min_score'],
    ['GET', '?max_score=x', '', 400, 'max_score'],
    ['GET', '?response_id=abc', '', 400, 'response_id'],
    ['GET', '?limit=-1', '', 400, 'limit'],
    ['PUT', `?id=${randomUUID()}`, '{"score":0}', 404, ''],
    ['PUT', `?id=${randomUUID()}`, '{"score":9}', 400, 'score'],
    ['PUT', `?id=${randomUUID()}`, '{}', 400, 'score'],
    ['PUT', '', '{"score":0}', 400, 'id'],
    ['DELETE', '?id=abc', '', 400, 'id'],
    ['DELETE', `?id=${randomUUID()}`, '', 404, ''],
  ])('refuses %s %s %s', async (method, query, raw, status, field) => {
    expectRefused(await door.send(method, `${FN}/rft-rewards${query}`, raw ? { raw } : {}), status, field);
  });
});

describe('rft-checkpoints', () => {
  it('keeps at most one active, does the statistics, and never deletes the active one', async () => {
    const before = await door.get<Many>(`${FN}/rft-checkpoints`);
    const record = (version: string, epoch: number, avg_reward: number, is_active: boolean) =>
      door.post<One>(`${FN}/rft-checkpoints`, {
        ...{ version, storage_key: `ckpt/${version}.bin`, url: 'https://example.org/c', epoch, avg_reward, is_active },
      });
    const one = await record('v1', 1, 0.25, true);
    expect(one.status, one.text).toBe(200);
    expect(one.body.data).toMatchObject({
      ...{ id: uuid, version: 'v1', storage_key: 'ckpt/v1.bin', url: 'https://example.org/c', epoch: 1 },
      ...{ avg_reward: 0.25, is_active: true, created_at: time },
    });
    const two = await record('v2', 3, 0.75, true);
    const three = await record('v2', 2, -0.5, false);
    const list = await door.get<Many>(`${FN}/rft-checkpoints?limit=3`);
    expect(list.body.count).toBe(before.body.count + 3);
    expect(list.body.data.map(({ id, is_active }) => [id, is_active])).toEqual([
      [three.body.data.id, false],
      [two.body.data.id, true],
      [one.body.data.id, false],
    ]);
    expect(list.body.stats).toMatchObject({ active_checkpoints: 1, latest_epoch: 3, best_avg_reward: 0.75 });
    expect(list.body.stats.versions).toEqual(expect.arrayContaining(['v1', 'v2']));
    const active = await door.get<Many>(`${FN}/rft-checkpoints?active_only=true`);
    expect(active.body.data.map(({ id }) => id)).toEqual([two.body.data.id]);
    const version = await door.get<Many>(`${FN}/rft-checkpoints?version=v2&limit=1&offset=1`);
    expect(version.body).toMatchObject({ count: 2, data: [{ id: two.body.data.id }] });

    expectRefused(await door.delete(`${FN}/rft-checkpoints?id=${two.body.data.id}`), 400, 'active');
    const put = await door.put<One>(`${FN}/rft-checkpoints?id=${one.body.data.id}`, { is_active: true });
    expect(put.body.data).toMatchObject({ is_active: true });
    expect((await door.get<Many>(`${FN}/rft-checkpoints?active_only=true`)).body.data).toMatchObject([
      { id: one.body.data.id },
    ]);
    const deleted = await door.delete(`${FN}/rft-checkpoints?id=${two.body.data.id}`);
    expect(deleted.body).toEqual({ success: true, message: expect.any(String) });
    // A record is not an artefact: the base goes on serving.
    const chat = await door.post<{ tuneloop: { checkpoint_id: null } }>('/v1/chat/completions', {
      ...{ model: 'nano', max_tokens: 2, messages: [{ role: 'user', content: 'Item: mug' }] },
    });
    expect(chat.status, chat.text).toBe(200);
    expect(chat.body.tuneloop.checkpoint_id).toBeNull();
  });

  const whole = { version: 'v', storage_key: 'k', epoch: 1, avg_reward: 0, is_active: false };
  it.each<[string, unknown, string]>([
    ['no version', { ...whole, version: undefined }, 'version'],
    ['no storage_key', { ...whole, storage_key: undefined }, 'storage_key'],
    ['an epoch as text', { ...whole, epoch: 'one' }, 'epoch'],
    ['an epoch below 0', { ...whole, epoch: -1 }, 'epoch'],
    ['is_active as text', { ...whole, is_active: 'yes' }, 'is_active'],
    ['a NUL character', { ...whole, version: '\u0000' }, 'version'],
  ])('refuses %s', async (_name, body, field) => {
    expectRefused(await door.post(`${FN}/rft-checkpoints`, body), 400, field);
  });

  it.each<[string, string, string, number, string]>([
    ['GET', '?active_only=maybe', '', 400, 'active_only'],
    ['GET', '?limit=0', '', 400, 'limit'],
    ['PUT', '?id=abc', '{"is_active":true}', 400, 'id'],
    ['PUT', `?id=${randomUUID()}`, '{"is_active":true}', 404, ''],
    ['PUT', `?id=${randomUUID()}`, '{}', 400, 'is_active'],
    ['DELETE', '', '', 400, 'id'],
    ['DELETE', `?id=${randomUUID()}`, '', 404, ''],
  ])('refuses %s %s %s', async (method, query, raw, status, field) => {
    expectRefused(await door.send(method, `${FN}/rft-checkpoints${query}`, raw ? { raw } : {}), status, field);
  });
});

describe('credentials', () => {
  it('are taken from either header; a wrong or missing one is 401, a role that may not is 403', async () => {
    const path = `${FN}/rft-responses`;
    expect((await door.get(path, { key: null, headers: { apikey: stack.apiKey } })).status).toBe(200);
    const bearer = { authorization: `Bearer ${stack.apiKey}` };
    expect((await door.get(path, { key: null, headers: bearer })).status).toBe(200);
    expectRefused(await door.get(path, { key: null }), 401, 'Authorization');
    expectRefused(await door.get(path, { key: `tl_abcdefgh_${'a'.repeat(43)}` }), 401, '');
    const body = { user_id: 'u', prompt: 'p', response_text: 'r' };
    expectRefused(await door.post(path, body, { key: await door.keyFor('viewer') }), 403, 'write');
  });
});
