import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Door } from '../src/door.ts';
import { jpeg, png } from '../src/pictures.ts';
import { runCli, type Stack, startStack } from '../src/stack.ts';

const CLI = fileURLToPath(new URL('../../apps/cli/src/bin.ts', import.meta.url));
const TOOLS = ['rft_create_reward', 'rft_get_statistics', 'rft_manage_checkpoints', 'rft_process_images'];

interface Result {
  isError?: boolean;
  content: { type: string; text: string }[];
  structuredContent?: Record<string, unknown>;
}
interface Processed {
  session_id: string;
  processed: number;
  failed: number;
  pending: number;
  failures: { source: string; reason: string }[];
}

let stack: Stack;
let door: Door;
let pictures: Server;
let root: string;
/** Requests that are held until the test is over. */
let asked = 0;
/** By address: what must have happened before the picture is served. */
const held = new Map<string, Promise<void>>();

beforeAll(async () => {
  pictures = createServer((request, response) => {
    const url = request.url ?? '';
    const seed = Number(/picture-(\d+)/.exec(url)?.[1] ?? Number.NaN);
    const serve = async (): Promise<void> => {
      await held.get(pictureUrl(url.slice(1)));
      response.writeHead(200, { 'content-type': 'image/png' }).end(await png(seed));
    };
    if (url === '/never') asked++;
    else if (Number.isNaN(seed)) response.writeHead(404).end();
    else void serve();
  });
  await new Promise<void>((resolve) => pictures.listen(0, '127.0.0.1', resolve));
  const { port } = pictures.address() as AddressInfo;
  stack = await startStack({ flags: ['--empty'], env: { FETCH_ALLOW_HOSTS: `127.0.0.1:${port}` } });
  door = new Door(stack.url, stack.apiKey);
  // Generation of candidates is another test's matter.
  const project = await door.get<object>('/api/v1/project');
  const changed = await door.send('PATCH', '/api/v1/project', {
    json: { settings: { auto_process: false } },
    headers: { 'if-match': project.headers.get('etag')! },
  });
  expect(changed.status, changed.text).toBe(200);
  root = join(stack.dataDir, 'pictures');
  await mkdir(root);
  await writeFile(join(root, 'one.jpg'), await jpeg(41));
  await writeFile(join(root, 'text.jpg'), 'no picture');
  await writeFile(join(stack.dataDir, 'outside.jpg'), await jpeg(42));
  await symlink(join(stack.dataDir, 'outside.jpg'), join(root, 'link.jpg'));
});
afterAll(async () => {
  pictures.closeAllConnections();
  pictures.close();
  await stack?.stop();
});

function pictureUrl(name: string): string {
  return `http://127.0.0.1:${(pictures.address() as AddressInfo).port}/${name}`;
}

const ERAS = { 2025: 'legacy', '2026-07-28': { pin: '2026-07-28' } } as const;
type Era = keyof typeof ERAS;
type Way = 'http' | 'stdio';

async function connect(way: Way, era: Era, key = stack.apiKey): Promise<Client> {
  const client = new Client({ name: 'acceptance', version: '1' }, { versionNegotiation: { mode: ERAS[era] } });
  const transport =
    way === 'http'
      ? new StreamableHTTPClientTransport(new URL('/mcp', stack.url), {
          requestInit: { headers: { authorization: `Bearer ${key}` } },
        })
      : new StdioClientTransport({
          command: process.execPath,
          args: [CLI, 'mcp', '--url', stack.url, '--key', key, '--root', root],
          stderr: 'ignore',
        });
  await client.connect(transport);
  return client;
}

/** A tool's answer; a refusal of its arguments by the protocol counts as one of the tool. */
async function call(client: Client, name: string, args: Record<string, unknown>): Promise<Result> {
  try {
    return (await client.callTool({ name, arguments: args })) as Result;
  } catch (error) {
    return { isError: true, content: [{ type: 'text', text: String(error) }] };
  }
}

async function respond(): Promise<string> {
  const made = await door.post<{ data: { id: string } }>('/functions/v1/rft-responses', {
    ...{ user_id: 'u', prompt: 'p', response_text: 'r' },
  });
  return made.body.data.id;
}

describe.each<[Way, Era]>([
  ['http', 2025],
  ['http', '2026-07-28'],
  ['stdio', 2025],
  ['stdio', '2026-07-28'],
])('over %s in the protocol of %s', (way, era) => {
  let client: Client;
  beforeAll(async () => {
    client = await connect(way, era);
  });
  afterAll(() => client?.close());

  it('speaks that protocol and lists its tools; paths are for this machine only', async () => {
    expect(client.getNegotiatedProtocolVersion()).toMatch(era === 2025 ? /^2025-\d\d-\d\d$/ : /^2026-07-28$/);
    const { tools } = await client.listTools();
    expect(tools.map(({ name }) => name).toSorted()).toEqual(TOOLS);
    const process = tools.find(({ name }) => name === 'rft_process_images')!;
    expect('image_paths' in (process.inputSchema.properties ?? {})).toBe(way === 'stdio');
  });

  it('collects pictures, with progress that only grows, and tells which failed', async () => {
    const seen: { progress: number; total?: number | undefined }[] = [];
    const bad = ['http://169.254.169.254/latest', 'http://localhost:5432/', pictureUrl('none')];
    // The last picture waits for a first report: what comes right before the result, a client may drop.
    const last = pictureUrl(`picture-2-${way}-${era}`);
    const reported = Promise.withResolvers<void>();
    held.set(last, reported.promise);
    const urls = [pictureUrl('picture-1'), last, ...bad];
    const result = (await client.callTool(
      {
        name: 'rft_process_images',
        arguments: { image_urls: urls, context: { category: 'fashion', quality_score: 0.5 }, user_id: 'agent' },
      },
      {
        onprogress: (progress) => {
          seen.push(progress);
          reported.resolve();
        },
      },
    )) as Result;
    expect(result.isError, JSON.stringify(result)).toBeFalsy();
    const told = result.structuredContent as unknown as Processed;
    expect(JSON.parse(result.content[0]!.text)).toEqual(told);
    expect(told).toMatchObject({ processed: 2, failed: 3, pending: 0 });
    expect(told.failures.map(({ source }) => source).toSorted()).toEqual(bad.toSorted());
    expect(seen[0]!.progress).toBeLessThan(5);
    for (const report of seen) expect(report.total).toBe(5);
    const order = seen.map(({ progress }) => progress);
    expect(order).toEqual([...new Set(order)].toSorted((a, b) => a - b));
    const images = await door.get<{ data: object[] }>(`/api/v1/images?session_id=${told.session_id}`);
    expect(images.body.data).toMatchObject([
      { category: 'fashion', user_id: 'agent' },
      { category: 'fashion', user_id: 'agent' },
    ]);
  });

  it('takes the same address twice as one wish', async () => {
    const twice = [pictureUrl('picture-3'), pictureUrl('picture-3')];
    const result = await call(client, 'rft_process_images', { image_urls: twice });
    expect(result.structuredContent).toMatchObject({ failed: 0, pending: 0 });
  });

  it('rates by score or by feedback, marked as no person’s word', async () => {
    const response_id = await respond();
    const scored = await call(client, 'rft_create_reward', { response_id, score: 0.25 });
    expect(scored.structuredContent).toMatchObject({ response_id, score: 0.25 });
    const liked = await call(client, 'rft_create_reward', {
      response_id,
      feedback: { type: 'dislike', quality: 2, comments: 'too short' },
    });
    expect(liked.structuredContent?.score).toBeCloseTo(-0.7);
    const list = await door.get<{ data: { synthetic: boolean }[] }>(`/api/v1/feedback?response_id=${response_id}`);
    expect(list.body.data.length).toBeGreaterThan(0);
    expect(list.body.data.every(({ synthetic }) => synthetic)).toBe(true);
  });

  it('tells the statistics', async () => {
    const { structuredContent } = await call(client, 'rft_get_statistics', {});
    expect(structuredContent).toMatchObject({
      responses: { total: expect.any(Number), by_model: expect.any(Object), recent_24h: expect.any(Number) },
      rewards: { total: expect.any(Number), avg_score: expect.any(Number) },
      checkpoints: { total: expect.any(Number), active: expect.any(Number) },
      training_readiness: { status: 'insufficient_data', recommendations: expect.any(Array) },
    });
  });

  it('manages checkpoints', async () => {
    const manage = (action: string, checkpoint_data?: object) =>
      call(client, 'rft_manage_checkpoints', { action, ...(checkpoint_data ? { checkpoint_data } : {}) });
    const version = `${way}-${era}`;
    const create = (is_active: boolean) =>
      manage('create', { version, storage_key: 'k', epoch: 1, avg_reward: 0.5, is_active });
    const idOf = (result: Result) => (result.structuredContent as { data: { id: string } }).data.id;
    const [one, two] = [idOf(await create(true)), idOf(await create(false))];
    expect((await manage('get_active')).structuredContent).toMatchObject({ data: { id: one, version } });
    await manage('activate', { id: two });
    expect((await manage('get_active')).structuredContent).toMatchObject({ data: { id: two } });
    const refused = await manage('delete', { id: two });
    expect(refused).toMatchObject({ isError: true });
    expect(refused.content[0]!.text).toContain('active');
    expect((await manage('delete', { id: one })).structuredContent).toMatchObject({ success: true });
    expect((await manage('list', { version })).structuredContent).toMatchObject({ count: 1, data: [{ id: two }] });
  });

  const id = '0190f5a2-7b3c-7def-8123-456789abcdef';
  it.each<[string, string, Record<string, unknown>, string]>([
    ['no picture', 'rft_process_images', {}, 'image_urls'],
    ['an address that is none', 'rft_process_images', { image_urls: ['nope'] }, 'image_urls'],
    ['a file address', 'rft_process_images', { image_urls: ['file:///etc/passwd'] }, 'image_urls'],
    ['a quality above 1', 'rft_process_images', { image_urls: [], context: { quality_score: 2 } }, 'quality_score'],
    [
      'a category with a path',
      'rft_process_images',
      { image_urls: ['http://e.org/a'], context: { category: '../x' } },
      'category',
    ],
    ['neither score nor feedback', 'rft_create_reward', { response_id: id }, 'score'],
    ['both', 'rft_create_reward', { response_id: id, score: 0, feedback: { type: 'like' } }, 'score'],
    ['a score above 1', 'rft_create_reward', { response_id: id, score: 2 }, 'score'],
    ['a quality of 9', 'rft_create_reward', { response_id: id, feedback: { type: 'like', quality: 9 } }, 'quality'],
    ['a bad id', 'rft_create_reward', { response_id: 'x', score: 0 }, 'response_id'],
    ['an unknown response', 'rft_create_reward', { response_id: id, score: 0 }, 'response_id'],
    ['an unknown action', 'rft_manage_checkpoints', { action: 'explode' }, 'action'],
    ['a checkpoint without version', 'rft_manage_checkpoints', { action: 'create' }, 'version'],
    ['no id to activate', 'rft_manage_checkpoints', { action: 'activate' }, 'id'],
    ['an unknown checkpoint', 'rft_manage_checkpoints', { action: 'delete', checkpoint_data: { id } }, id],
    ['a word nobody knows', 'rft_get_statistics', { since: 'ever' }, 'since'],
    ['a tool that is none', 'rft_fly', {}, 'rft_fly'],
  ])('refuses %s by name and goes on', async (_name, tool, args, field) => {
    const result = await call(client, tool, args);
    expect(result.isError).toBe(true);
    expect(result.content[0]!.text).toContain(field);
    expect(result.content[0]!.text).not.toMatch(/\n\s+at |this side/);
  });

  it('stops when it is cancelled, and goes on with the next', async () => {
    const before = asked;
    const stop = new AbortController();
    const running = client.callTool(
      { name: 'rft_process_images', arguments: { image_urls: [pictureUrl('never')] } },
      { signal: stop.signal },
    );
    await expect.poll(() => asked, { timeout: 20_000 }).toBeGreaterThan(before);
    stop.abort('enough');
    await expect(running).rejects.toThrow('enough');
    pictures.closeAllConnections();
    expect((await call(client, 'rft_get_statistics', {})).isError).toBeFalsy();
  });
});

const BOTH: readonly [Era][] = [[2025], ['2026-07-28']];

describe.each(BOTH)('paths over HTTP in the protocol of %s', (era) => {
  let client: Client;
  beforeAll(async () => {
    client = await connect('http', era);
  });
  afterAll(() => client?.close());

  it('refuses paths, which would be the server’s own', async () => {
    for (const image_urls of [[], [pictureUrl('picture-1')]]) {
      const result = await call(client, 'rft_process_images', { image_urls, image_paths: [join(root, 'one.jpg')] });
      expect(result.isError).toBe(true);
      expect(result.content[0]!.text).toContain('image_paths');
    }
  });
});

describe.each(BOTH)('paths over stdio in the protocol of %s', (era) => {
  let client: Client;
  beforeAll(async () => {
    client = await connect('stdio', era);
  });
  afterAll(() => client?.close());

  it('uploads files below its roots, and tells which are no pictures', async () => {
    const image_paths = [join(root, 'one.jpg'), join(root, 'text.jpg')];
    const result = await call(client, 'rft_process_images', { image_paths, context: { category: 'general' } });
    expect(result.structuredContent).toMatchObject({
      ...{ processed: 1, failed: 1, pending: 0 },
      failures: [{ source: 'text.jpg', reason: expect.stringContaining('picture') }],
    });
  });

  it.each<[string, () => string]>([
    ['a file outside', () => join(stack.dataDir, 'outside.jpg')],
    ['a way out', () => join(root, '..') + '/outside.jpg'],
    ['a link to outside', () => join(root, 'link.jpg')],
    ['a system file', () => '/etc/hostname'],
    ['a folder beside with the same beginning', () => `${root}-not/one.jpg`],
    ['a file that is not there', () => join(root, 'none.jpg')],
    ['a folder', () => join(root, '.')],
    ['nothing', () => ''],
  ])('refuses %s and uploads nothing', async (_name, path) => {
    const before = await door.get<{ data: { id: string }[] }>('/api/v1/sessions?limit=1');
    const image_paths = [join(root, 'one.jpg'), path()];
    const result = await call(client, 'rft_process_images', { image_paths });
    expect(result.isError, JSON.stringify(result)).toBe(true);
    expect(result.content[0]!.text).toContain('image_paths');
    const after = await door.get<{ data: { id: string }[] }>('/api/v1/sessions?limit=1');
    expect(after.body.data[0]?.id).toBe(before.body.data[0]?.id);
  });
});

describe('credentials', () => {
  it('are needed over HTTP, and decide what a tool may do', async () => {
    expect((await door.get('/mcp', { key: null })).status).toBe(401);
    await expect(connect('http', '2026-07-28', `tl_abcdefgh_${'a'.repeat(43)}`)).rejects.toThrow();
    const client = await connect('http', '2026-07-28', await door.keyFor('viewer'));
    expect((await call(client, 'rft_get_statistics', {})).isError).toBeFalsy();
    const refused = await call(client, 'rft_create_reward', { response_id: await respond(), score: 1 });
    expect(refused.isError).toBe(true);
    expect(refused.content[0]!.text).toContain('403');
    await client.close();
  });

  it('are told on stdio when they are wrong, and when nobody answers', async () => {
    const client = await connect('stdio', 2025, `tl_abcdefgh_${'a'.repeat(43)}`);
    const refused = await call(client, 'rft_get_statistics', {});
    expect(refused.isError).toBe(true);
    expect(refused.content[0]!.text).toContain('401');
    await client.close();
  });

  it.each<[string, string[], RegExp]>([
    ['no address and no key', ['--data', '/nonexistent'], /--url/],
    ['an address that is none', ['--url', 'nonsense', '--key', 'tl_x'], /--url/],
    ['a root that is not there', ['--url', 'http://127.0.0.1:1', '--key', 'tl_x', '--root', '/none'], /--root/],
  ])('mcp with %s says what to give', async (_name, args, message) => {
    const { status, output } = await runCli(['mcp', ...args], { timeoutMs: 20_000 });
    expect(status).toBe(1);
    expect(output).toMatch(message);
    expect(output).not.toMatch(/\n\s+at .*:\d+:\d+/);
  });
});
