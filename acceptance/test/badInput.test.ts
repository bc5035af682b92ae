import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createConnection, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { connect, credsAuthenticator, type NatsConnection } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Answer, Door, until } from '../src/door.ts';
import { file, form, jpeg } from '../src/pictures.ts';
import { runCli, type Stack, startStack } from '../src/stack.ts';

const KINDS = ['image', 'document', 'feedback'] as const;
type Kind = (typeof KINDS)[number];

interface Credentials {
  url: string;
  creds: string;
  inbox_prefix: string;
  subjects: string[];
  rejects: string;
}
interface Reject {
  id: string | null;
  source: string | null;
  field: string | null;
  reason: string;
  code: string;
}
interface DeadLetter {
  id: string;
  service: string;
  subject: string;
  body: string;
  error: string;
  code: string;
  status: string;
}

/** One project with its collector on NATS. */
interface Tenant {
  readonly door: Door;
  readonly projectId: string;
  readonly nats: NatsConnection;
  /** What came on `rejects.<project>.>`, by the sender's own id. */
  readonly rejects: Map<string, Reject>;
  /** What the server refused the connection. */
  readonly refusals: string[];
}

let stack: Stack;
let ours: Tenant;
let theirs: Tenant;
let responseId: string;

beforeAll(async () => {
  stack = await startStack({ flags: ['--empty'] });
  ours = await tenant(stack.apiKey);
  const made = await runCli(['bootstrap', '--slug', 'other', '--url', stack.url], {
    env: { TUNELOOP_SECRET: readFileSync(join(stack.dataDir, 'secret'), 'utf8').trim() },
    timeoutMs: 30_000,
  });
  theirs = await tenant(/tl_\S+/.exec(made.output)![0]);
  responseId = await respond(ours);
});
afterAll(async () => {
  await ours?.nats.close();
  await theirs?.nats.close();
  await stack?.stop();
});

async function tenant(key: string): Promise<Tenant> {
  const door = new Door(stack.url, key);
  const { project_id: projectId } = (await door.get<{ project_id: string }>('/api/v1/me')).body;
  const credentials = (await door.post<Credentials>('/api/v1/nats-credentials', {})).body;
  expect(credentials.subjects).toContain(`ext.${projectId}.feedback.submitted.v1`);
  const nats = await connect({
    servers: credentials.url,
    authenticator: credsAuthenticator(new TextEncoder().encode(credentials.creds)),
    inboxPrefix: credentials.inbox_prefix,
    reconnect: false,
  });
  const rejects = new Map<string, Reject>();
  nats.subscribe(credentials.rejects, {
    callback: (_error, message) => {
      const reject = message.json<Reject>();
      rejects.set(reject.id ?? `none ${rejects.size}`, reject);
    },
  });
  await nats.flush();
  const refusals: string[] = [];
  void (async () => {
    for await (const status of nats.status()) if (status.type === 'error') refusals.push(status.error.message);
  })();
  return { door, projectId, nats, rejects, refusals };
}

async function respond({ door }: Tenant): Promise<string> {
  const made = await door.post<{ response_id: string }>('/api/v1/responses', { prompt: 'p', response_text: 'r' });
  expect(made.status, made.text).toBe(201);
  return made.body.response_id;
}

/** Publishes as a collector does: the answer is the stream's acknowledgement. */
async function publish({ nats, projectId }: Tenant, kind: string, body: unknown): Promise<void> {
  const payload = typeof body === 'string' ? body : JSON.stringify(body);
  const answer = await nats.request(`ext.${projectId}.${kind}.submitted.v1`, payload, { timeout: 10_000 });
  expect(answer.json<{ stream: string }>().stream).toBe('EXT');
}

async function deadLetters({ door }: Tenant, status = 'open'): Promise<DeadLetter[]> {
  const answer = await door.get<{ data: DeadLetter[]; unavailable: string[] }>(
    `/api/v1/dead-letters?limit=500&status=${status}`,
  );
  expect(answer.body.unavailable).toEqual([]);
  return answer.body.data;
}

const item = (fields: object = {}) => ({ id: randomUUID(), source: 'scraper', ...fields });
const stars = (fields: object = {}) => item({ response_id: responseId, kind: 'stars', value: 5, ...fields });

describe('intake over NATS', () => {
  it('takes what is right once, however often it is sent, with or without CloudEvents around it', async () => {
    const sent = stars({ user_id: 'nats' });
    for (let time = 0; time < 3; time++) await publish(ours, 'feedback', sent);
    const { id, source, ...data } = stars({ user_id: 'structured' });
    await publish(ours, 'feedback', { specversion: '1.0', type: 'feedback.submitted', id, source, data });
    const by = async (user: string) =>
      (await ours.door.get<{ data: object[] }>(`/api/v1/feedback?user_id=${user}&status=all`)).body.data.length;
    await until(
      () => by('structured'),
      (count) => count === 1,
    );
    expect(await by('nats')).toBe(1);
  });

  const cases: [string, Kind, () => unknown, string | null][] = [
    ['text that is no JSON', 'feedback', () => 'hello', 'body'],
    ['JSON that is cut off', 'image', () => '{"id":"cut","source":"s","url":', 'body'],
    ['a list', 'document', () => [1, 2], 'body'],
    ['nothing', 'feedback', () => '', 'body'],
    ['no id', 'feedback', () => ({ source: 's', response_id: responseId, kind: 'stars', value: 5 }), 'id'],
    ['no source', 'feedback', () => stars({ source: undefined }), 'source'],
    ['no response_id', 'feedback', () => stars({ response_id: undefined }), 'response_id'],
    ['a bad response_id', 'feedback', () => stars({ response_id: 'x' }), 'response_id'],
    ['an unknown response', 'feedback', () => stars({ response_id: randomUUID() }), 'response_id'],
    ['six stars', 'feedback', () => stars({ value: 6 }), 'value'],
    ['stars in words', 'feedback', () => stars({ value: 'many' }), 'value'],
    ['a kind nobody knows', 'feedback', () => stars({ kind: 'telepathy' }), 'kind'],
    ['a NUL character', 'feedback', () => stars({ comment: 'a\u0000b' }), 'comment'],
    ['a picture from nowhere', 'image', () => item(), 'url'],
    ['a picture from two places', 'image', () => item({ url: 'https://e.org/a', inline: 'AAAA' }), 'url'],
    ['a file address', 'image', () => item({ url: 'file:///etc/passwd' }), 'url'],
    ['an address inside the network', 'image', () => item({ url: 'http://169.254.169.254/latest' }), 'url'],
    ['this machine', 'image', () => item({ url: 'http://127.0.0.1:5432/' }), 'url'],
    ['this machine by another name', 'image', () => item({ url: 'http://[::ffff:127.0.0.1]/' }), 'url'],
    ['no base64', 'image', () => item({ inline: '%%%' }), 'inline'],
    ['no picture', 'image', () => item({ inline: Buffer.from('just text').toString('base64') }), 'inline'],
    ['a category with a path', 'image', () => item({ inline: 'AAAA', category: '../x' }), 'category'],
    ['somebody else’s blob', 'image', () => item({ storage_key: `ingest/${theirs.projectId}/aa/b` }), 'storage_key'],
    ['an unknown session', 'image', () => item({ inline: 'AAAA', session_id: randomUUID() }), 'session_id'],
    ['a document without name', 'document', () => item({ inline: 'AAAA' }), 'name'],
    ['a document named as a path', 'document', () => item({ inline: 'AAAA', name: '../../x.pdf' }), 'name'],
  ];
  it('answers each bad item with field and reason, keeps it as a dead letter, and goes on', async () => {
    const before = (await deadLetters(ours)).length;
    const sent = cases.map(([name, kind, make, field]) => {
      const body = make();
      return { name, kind, field, body, id: (body as { id?: string }).id };
    });
    ours.rejects.clear();
    for (const { kind, body } of sent) await publish(ours, kind, body);
    await until(
      async () => ours.rejects.size,
      (count) => count >= cases.length,
    );
    for (const { name, field, id } of sent.filter((one) => one.id !== undefined)) {
      const reject = ours.rejects.get(id!);
      expect(reject, name).toMatchObject({ id, field, reason: expect.stringMatching(/\w{3}/) });
      expect(reject!.reason, name).not.toMatch(/\n|\bat \w+ \(|undefined/);
    }
    const nameless = [...ours.rejects.values()].filter(({ id }) => id === null);
    expect(nameless.map(({ field }) => field)).toEqual(expect.arrayContaining(['body', 'body', 'body', 'body', 'id']));
    expect(nameless).toHaveLength(5);
    const letters = await until(
      () => deadLetters(ours),
      (list) => list.length >= before + cases.length,
    );
    expect(letters).toHaveLength(before + cases.length);
    for (const { name, id, kind } of sent.filter((one) => one.id !== undefined)) {
      const letter = letters.find(({ body }) => body.includes(id!));
      expect(letter, name).toMatchObject({
        ...{ subject: `ext.${ours.projectId}.${kind}.submitted.v1`, status: 'open' },
        error: expect.stringContaining(ours.rejects.get(id!)!.reason),
      });
    }
    const good = stars({ user_id: 'after' });
    await publish(ours, 'feedback', good);
    await until(
      async () => (await ours.door.get<{ data: object[] }>('/api/v1/feedback?user_id=after')).body.data.length,
      (count) => count === 1,
    );
  });

  it('lets operators replay and drop what was refused', async () => {
    const later = stars({ user_id: 'late', response_id: randomUUID() });
    await publish(ours, 'feedback', later);
    const [letter] = await until(
      async () => (await deadLetters(ours)).filter(({ body }) => body.includes(later.id)),
      (found) => found.length === 1,
    );
    const settle = (action: string) =>
      ours.door.post(`/api/v1/dead-letters/${letter!.service}/${letter!.id}/${action}`, undefined);
    expect(
      (await theirs.door.post(`/api/v1/dead-letters/${letter!.service}/${letter!.id}/drop`, undefined)).status,
    ).toBe(404);
    expect((await settle('explode')).status).toBe(400);
    expect((await settle('drop')).body).toEqual({ id: letter!.id, status: 'dropped' });
    expect((await deadLetters(ours)).some(({ id }) => id === letter!.id)).toBe(false);
    expect((await deadLetters(ours, 'dropped')).some(({ id }) => id === letter!.id)).toBe(true);

    const early = item({ response_id: randomUUID(), kind: 'thumbs', value: 1, user_id: 'early' });
    await publish(ours, 'feedback', early);
    const [poisoned] = await until(
      async () => (await deadLetters(ours)).filter(({ body }) => body.includes(early.id)),
      (found) => found.length === 1,
    );
    ours.rejects.delete(early.id);
    const replayed = await ours.door.post(
      `/api/v1/dead-letters/${poisoned!.service}/${poisoned!.id}/replay`,
      undefined,
    );
    expect(replayed.status, replayed.text).toBe(200);
    // Nothing has changed, so it is refused again, and said again.
    await until(
      async () => ours.rejects.has(early.id),
      (back) => back,
    );
    await until(
      async () => (await deadLetters(ours)).filter(({ body }) => body.includes(early.id)).length,
      (open) => open === 1,
    );
  });

  it('keeps tenants apart: nobody publishes for, listens to, or gets in the way of another', async () => {
    const forbidden = [
      `ext.${ours.projectId}.feedback.submitted.v1`,
      `tl.${ours.projectId}.response.created.v1`,
      `rejects.${ours.projectId}.feedback.v1`,
      '$JS.API.STREAM.PURGE.EXT',
      'ext.*.feedback.submitted.v1',
    ];
    for (const subject of forbidden) {
      await expect(theirs.nats.request(subject, JSON.stringify(stars()), { timeout: 2_000 })).rejects.toThrow();
    }
    const overheard: string[] = [];
    for (const subject of [`rejects.${ours.projectId}.>`, 'rejects.>', `ext.${ours.projectId}.>`, '>', '_INBOX.>']) {
      theirs.nats.subscribe(subject, { callback: (error, message) => void (error ?? overheard.push(message.subject)) });
    }
    await theirs.nats.flush().catch(() => undefined);
    await until(
      async () => theirs.refusals.length,
      (count) => count >= 5,
    );
    const secret = stars({ value: 9 });
    await publish(ours, 'feedback', secret);
    await until(
      async () => ours.rejects.has(secret.id),
      (came) => came,
    );
    expect(overheard).toEqual([]);
    expect((await deadLetters(theirs)).some(({ body }) => body.includes(secret.id))).toBe(false);

    // The same source and id of two tenants are two items.
    const twin = item({ inline: (await jpeg(77)).toString('base64') });
    await publish(theirs, 'image', twin);
    await publish(ours, 'image', twin);
    for (const { door } of [ours, theirs]) {
      await until(
        async () => (await door.get<{ data: { size: number }[] }>('/api/v1/images')).body.data.length,
        (count) => count === 1,
      );
    }
  });

  it('lets nobody in without credentials, and takes no message beyond its limit', async () => {
    await expect(connect({ servers: stack.natsUrl, reconnect: false, timeout: 3_000 })).rejects.toThrow();
    const tooMuch = stars({ comment: 'x'.repeat(2 * 1024 * 1024) });
    await expect(publish(ours, 'feedback', tooMuch)).rejects.toThrow(/payload/i);
    await publish(ours, 'feedback', stars({ user_id: 'still here' }));
  });
});

interface Operation {
  readonly method: string;
  readonly path: string;
  readonly hasBody: boolean;
  readonly open: boolean;
}

async function operations(): Promise<Operation[]> {
  type Described = Record<
    string,
    { requestBody?: { content: object }; security?: unknown[]; responses: Record<string, { content?: object }> }
  >;
  const { paths } = (await ours.door.get<{ paths: Record<string, Described> }>('/openapi.json')).body;
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([, { responses }]) => !JSON.stringify(responses).includes('text/event-stream') || path.startsWith('/v1'))
      .map(([method, described]) => ({
        ...{ method: method.toUpperCase(), path, hasBody: described.requestBody !== undefined },
        open: Array.isArray(described.security) && described.security.length === 0,
      })),
  );
}

/** The form that errors have at an address, and that they say something. */
function errorForm(path: string, status: number): object {
  const word = expect.stringMatching(/\w{3}/);
  if (path.startsWith('/functions/v1')) return { success: false, error: word };
  if (path.startsWith('/v1')) return { error: { message: word, type: word } };
  return { status, title: word, detail: word, code: word };
}

function expectShape(path: string, { status, body, text }: Answer): void {
  expect(body, text).toMatchObject(errorForm(path, status));
  expect(text).not.toMatch(/\bat .*\.ts:\d|node_modules|SELECT |INSERT /);
}

describe('every HTTP route', () => {
  it('wants credentials, in the error form of its surface', async () => {
    const all = await operations();
    expect(all.length).toBeGreaterThan(60);
    for (const { method, path, open } of all) {
      if (open) continue;
      const answer = await ours.door.send(method, path.replaceAll(/\{\w+\}/g, randomUUID()), { key: null });
      expect(answer.status, `${method} ${path}: ${answer.text}`).toBe(401);
      expectShape(path, answer);
    }
  });

  it('answers whatever it is sent with a reason and never with a failure of its own', async () => {
    const junk: unknown[] = [
      {},
      [],
      'text',
      0,
      null,
      { id: { $ne: 1 }, a: '\u0000' },
      { [`x${'y'.repeat(300)}`]: [[[]]] },
    ];
    const raws = ['', '{', '\u0000', '{"__proto__":{"admin":true}}'];
    const bad: string[] = [];
    for (const { method, path, hasBody } of await operations()) {
      const sent = hasBody ? [...junk.map((json) => ({ json })), ...raws.map((raw) => ({ raw }))] : [{}];
      for (const names of [randomUUID(), 'x', "'%20OR%201=1", '%F0%9F%A6%8A', 'a'.repeat(300)]) {
        const query = names === 'x' ? '?limit=abc&cursor=%22&offset=-1&status=nope' : '';
        for (const one of sent) {
          const answer = await ours.door.send(method, path.replaceAll(/\{\w+\}/g, names) + query, one);
          if (answer.status >= 500) bad.push(`${method} ${path} ${names} ${JSON.stringify(one)}: ${answer.text}`);
          else if (answer.status >= 400) expectShape(path, answer);
        }
        if (!path.includes('{')) break;
      }
    }
    expect(bad).toEqual([]);
  }, 120_000);

  it.each<[string, string, string, object | undefined, number, string]>([
    ['an empty feedback', 'POST', '/api/v1/feedback', {}, 400, 'kind'],
    ['feedback on nothing', 'POST', '/api/v1/feedback', { kind: 'stars', value: 5 }, 400, 'response_id'],
    ['a page without end', 'GET', '/api/v1/responses?limit=1000000', undefined, 400, 'limit'],
    ['a cursor of one’s own', 'GET', '/api/v1/responses?cursor=abc', undefined, 400, 'cursor'],
    ['an id that is none', 'GET', '/api/v1/images/abc', undefined, 400, 'id'],
    ['a template without a name', 'PUT', '/api/v1/prompt-templates/UPPER', { body: 'x' }, 400, 'category'],
    ['a job without data', 'POST', '/api/v1/training-jobs', { method: 'sft' }, 400, 'dataset_version_id'],
    [
      'a method nobody has',
      'POST',
      '/api/v1/training-jobs',
      { dataset_version_id: randomUUID(), method: 'osmosis' },
      400,
      'method',
    ],
    [
      'a priority nobody has',
      'POST',
      '/api/v1/retraining-requests',
      { reason: 'x', priority: 'asap' },
      400,
      'priority',
    ],
    [
      'a key for ever ago',
      'POST',
      '/api/v1/api-keys',
      { name: 'x', expires_at: '2001-01-01T00:00:00Z' },
      400,
      'expires_at',
    ],
    ['a session of bad addresses', 'POST', '/api/v1/sessions', { image_urls: ['ftp://x'] }, 400, 'image_urls[0]'],
    ['credentials for a second', 'POST', '/api/v1/nats-credentials', { ttl_seconds: 1 }, 400, 'ttl_seconds'],
    ['settings without If-Match', 'PATCH', '/api/v1/project', { name: 'x' }, 428, 'If-Match'],
  ])('%s is refused by name', async (_name, method, path, json, status, field) => {
    const answer = await ours.door.send<{ errors?: { field: string; message: string }[]; detail: string }>(
      method,
      path,
      { json },
    );
    expect(answer.status, answer.text).toBe(status);
    expect(answer.headers.get('content-type')).toContain('application/problem+json');
    expect(answer.text).toContain(field);
    expectShape(path, answer);
  });

  it('tells what is wrong with the way of asking', async () => {
    const { door } = ours;
    expect((await door.get('/api/v1/nothing')).status).toBe(404);
    expect((await door.delete('/api/v1/statistics')).status).toBe(405);
    expect((await door.get('/internal/rewards/dead-letters')).status).toBe(404);
    const xml = await door.send('POST', '/api/v1/feedback', { raw: '<a/>', headers: { 'content-type': 'text/xml' } });
    expect(xml.status).toBe(415);
    const much = await door.post('/api/v1/feedback', { kind: 'comment', comment: 'x'.repeat(20 * 1024 * 1024) });
    expect(much.status).toBe(413);
    const key = { headers: { 'idempotency-key': randomUUID() } };
    const body = { prompt: 'p', response_text: 'r' };
    const [first, again] = [
      await door.post('/api/v1/responses', body, key),
      await door.post('/api/v1/responses', body, key),
    ];
    expect(again.body).toEqual(first.body);
    expect((await door.post('/api/v1/responses', { ...body, prompt: 'q' }, key)).status).toBe(409);
    const long = await door.get('/api/v1/me', { headers: { 'x-long': 'x'.repeat(64 * 1024) } }).catch(() => undefined);
    expect(long?.status ?? 431).toBe(431);
    expect((await door.get('/api/v1/me')).status).toBe(200);
  });
});

describe('a file that is cut off', () => {
  const blobs = (): string[] =>
    readdirSync(join(stack.dataDir, 'blobs'), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .toSorted();

  /** Sends the first part of a request that promises more, and hangs up. */
  async function cutOff(path: string, fields: FormData): Promise<void> {
    const whole = new Request('http://x', { method: 'POST', body: fields });
    const bytes = Buffer.from(await whole.clone().arrayBuffer());
    const { hostname, port } = new URL(stack.url);
    const socket = createConnection({ host: hostname, port: Number(port) });
    const head = [
      `POST ${path} HTTP/1.1`,
      `Host: ${hostname}`,
      `Authorization: Bearer ${stack.apiKey}`,
      `Content-Type: ${whole.headers.get('content-type')}`,
      `Content-Length: ${bytes.byteLength}`,
    ];
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.write(`${head.join('\r\n')}\r\n\r\n`);
      socket.write(bytes.subarray(0, Math.floor(bytes.byteLength * 0.8)), () => resolve());
    });
    socket.destroy();
  }

  it('leaves nothing, and the same file is taken whole afterwards', async () => {
    const { door } = ours;
    const count = async (path: string) => (await door.get<{ data: object[] }>(path)).body.data.length;
    const before = { files: blobs(), images: await count('/api/v1/images'), jsonl: await count('/v1/files') };
    const line = JSON.stringify({
      messages: [
        { role: 'user', content: 'x'.repeat(500) },
        { role: 'assistant', content: 'y' },
      ],
    });
    const jsonl = Buffer.from(Array.from({ length: 4_000 }, () => line).join('\n'));
    const pictureForm = async () => form({ file: file(await jpeg(78), 'cut.jpg') });
    const fileForm = () => form({ purpose: 'fine-tune', file: file(jsonl, 'cut.jsonl') });
    for (let time = 0; time < 3; time++) {
      await cutOff('/functions/v1/upload', await pictureForm());
      await cutOff('/api/v1/images', await pictureForm());
      await cutOff('/v1/files', fileForm());
    }
    // A whole upload after the broken ones: when it has been answered, they have long been noticed.
    const taken = await door.send('POST', '/functions/v1/upload', { form: await pictureForm() });
    expect(taken.status, taken.text).toBe(200);
    await until(
      async () => blobs().length,
      (files) => files === before.files.length + 1,
    );
    expect(await count('/api/v1/images')).toBe(before.images + 1);
    expect(await count('/v1/files')).toBe(before.jsonl);
    expect((await door.send('POST', '/v1/files', { form: fileForm() })).status).toBe(200);
  });
});

describe('the command line', () => {
  let occupied: Server;
  let port: number;
  beforeAll(async () => {
    occupied = createServer();
    await new Promise<void>((resolve) => occupied.listen(0, '127.0.0.1', resolve));
    port = (occupied.address() as { port: number }).port;
    writeFileSync(join(stack.dataDir, 'a-file'), '');
  });
  afterAll(() => void occupied.close());

  it.each<[string, () => string[], RegExp]>([
    ['a port in words', () => ['start', '--port', 'x'], /--port.*whole number/],
    ['a port beyond all', () => ['start', '--port', '99999'], /--port.*65535/],
    [
      'a port in use',
      () => ['start', '--empty', '--data', join(stack.dataDir, 'new'), '--port', `${port}`],
      /in use.*--port/,
    ],
    ['a file as data directory', () => ['start', '--data', join(stack.dataDir, 'a-file')], /--data.*is a file/],
    ['an address that is none', () => ['start', '--host', '999.1.1.1'], /--host.*0\.0\.0\.0/],
    ['a taste nobody has', () => ['start', '--taste', 'sweet'], /--taste.*accurate, vivid, plain/],
    ['labels nobody has', () => ['start', '--labels', 'upside'], /--labels.*true, shuffled/],
    ['a seed below 0', () => ['start', '--seed', '-1'], /--seed.*whole number/],
    ['a report into nowhere', () => ['start', '--once', '--report', '/nonexistent/r.json'], /--report.*no folder/],
    ['a turn on nothing', () => ['start', '--once', '--empty'], /--empty.*--once/],
    ['a flag nobody has', () => ['start', '--fast'], /unknown option '--fast'/],
    ['a command nobody has', () => ['fly'], /unknown command 'fly'/],
    ['no gateway', () => ['why', '--data', '/nonexistent'], /--url/],
    ['a gateway that is away', () => ['why', '--url', `http://127.0.0.1:1`, '--key', 'tl_x'], /does not answer/],
    ['a wrong key', () => ['why', '--url', stack.url, '--key', 'tl_x'], /401/],
    ['a run that is none', () => ['why', 'x', '--url', stack.url, '--key', stack.apiKey], /id must be a UUID/],
    ['no slug', () => ['bootstrap'], /--slug/],
    ['no secret', () => ['bootstrap', '--slug', 'x', '--url', stack.url], /TUNELOOP_SECRET/],
  ])('says what to give instead of %s', async (_name, args, message) => {
    const { status, output } = await runCli(args(), { timeoutMs: 30_000 });
    expect(output).toMatch(message);
    expect(output).not.toMatch(/\n\s+at .*:\d+:\d+/);
    expect(status).toBe(1);
  });
});

it('has kept all that was stored, and goes on serving', async () => {
  const kept = await ours.door.get<{ response_text: string }>(`/api/v1/responses/${responseId}`);
  expect(kept.body.response_text).toBe('r');
  for (const service of ['/readyz', '/healthz']) expect((await ours.door.get(service)).status).toBe(200);
  expect(await respond(theirs)).toMatch(/^[0-9a-f-]{36}$/);
  const list = await theirs.door.get<{ data: object[] }>('/api/v1/responses');
  expect(list.body.data).toHaveLength(1);
});
