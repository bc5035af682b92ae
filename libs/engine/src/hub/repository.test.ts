import { lstat, mkdtemp, readdir, readFile, readlink, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { FakeHub, HUB_COMMIT } from '../../fixtures/fakeHub.ts';
import { fixturePath } from '../../fixtures/fixtures.ts';
import { loadModel } from '../weights/loadByName.ts';
import { loadModelFolder } from '../weights/loadModel.ts';
import { encodeSafetensors } from '../weights/safetensors.ts';
import { downloadModel, isHubName } from './repository.ts';
import { hubSettings, type HubOptions, type HubProgress } from './settings.ts';

const ID = 'some-org/tiny-model';
const TOKEN = 'hf_verySecretToken';
const WEIGHTS = 'model.safetensors';

let hub: FakeHub;
let options: HubOptions;
let cacheDir: string;
let repo: string;

beforeEach(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'hub-'));
  repo = join(cacheDir, 'models--some-org--tiny-model');
  hub = new FakeHub(ID);
  for (const [name, from] of [
    ['config.json', 'tiny-tied/config.json'],
    [WEIGHTS, 'tiny-tied/model.safetensors'],
    ['tokenizer.json', 'bpe/tokenizer.json'],
    ['tokenizer_config.json', 'bpe/tokenizer_config.json'],
  ] as const) {
    hub.files.set(name, await readFile(fixturePath(from)));
  }
  hub.files.set('README.md', Buffer.from('not needed'));
  options = { cacheDir, mirror: await hub.start(), offline: false, retryDelayMs: 1, onProgress: () => hub.cut() };
});
afterEach(async () => {
  await hub.stop();
  await rm(cacheDir, { recursive: true });
});

const failure = async (more: HubOptions = {}, name = ID): Promise<Error & { code?: string }> =>
  await downloadModel(name, { ...options, ...more }).then(
    () => new Error('it worked'),
    (error: Error) => error,
  );

describe('downloading', () => {
  it('gives the model, in the layout of the Python package, and fetches nothing twice', async () => {
    const { model, tokenizer, place } = await loadModel(ID, options);
    const original = await loadModelFolder(fixturePath('tiny-tied'));
    expect(model.weights).toEqual(original.weights);
    expect(tokenizer.chatTemplate).toContain('im_start');
    const snapshot = join(repo, 'snapshots', HUB_COMMIT);
    expect(place).toEqual({ kind: 'folder', folder: snapshot });
    expect(await readFile(join(repo, 'refs', 'main'), 'utf8')).toBe(HUB_COMMIT);
    expect((await lstat(join(snapshot, WEIGHTS))).isSymbolicLink()).toBe(true);
    expect(await readlink(join(snapshot, WEIGHTS))).toMatch(/^\.\.\/\.\.\/blobs\/[0-9a-f]{64}$/);
    expect(await readdir(snapshot)).not.toContain('README.md');
    const before = hub.seen.length;
    await loadModel(ID, options);
    expect(hub.seen.slice(before).map(({ path }) => path)).toEqual([`/api/models/${ID}/revision/main`]);
  });

  it('takes the shards that an index names', async () => {
    const { weights } = await loadModelFolder(fixturePath('tiny-tied'));
    const all = [...weights];
    hub.files.delete(WEIGHTS);
    const weight_map: Record<string, string> = {};
    for (const [name, part] of [
      ['one.safetensors', all.slice(0, 5)],
      ['two.safetensors', all.slice(5)],
    ] as const) {
      hub.files.set(name, Buffer.from(encodeSafetensors(new Map(part))));
      for (const [key] of part) weight_map[key] = name;
    }
    hub.files.set('model.safetensors.index.json', Buffer.from(JSON.stringify({ weight_map })));
    expect((await loadModel(ID, options)).model.weights).toEqual(weights);
  });

  it('takes one GGUF file of a repository', async () => {
    hub.files.set('q4.gguf', await readFile(fixturePath('gguf/llama-f16.gguf')));
    expect(await downloadModel(`${ID}/q4.gguf`, options)).toBe(join(repo, 'snapshots', HUB_COMMIT, 'q4.gguf'));
    expect(hub.paths('cdn', 'GET')).toEqual(['/q4.gguf']);
    expect(await downloadModel(`${ID}/q4.gguf`, { ...options, offline: true })).toContain('q4.gguf');
  });

  it('tells its progress', async () => {
    const told: HubProgress[] = [];
    await downloadModel(ID, { ...options, onProgress: (progress) => told.push(progress) });
    const { length } = hub.files.get(WEIGHTS)!;
    expect(told.at(-1)).toEqual({ file: WEIGHTS, bytes: length, totalBytes: length });
  });
});

describe('what breaks off', () => {
  it('is gone on with where it stopped', async () => {
    hub.breaks = { times: 2, after: 10_000 };
    const folder = await downloadModel(ID, options);
    expect(await readFile(join(folder, WEIGHTS))).toEqual(hub.files.get(WEIGHTS));
    const begins = hub.seen
      .filter(({ at }) => at === 'cdn')
      .map(({ range }) => /^bytes=(\d+)-$/.exec(range ?? '')?.[1]);
    expect(begins.length).toBe(3);
    expect(begins[0]).toBeUndefined();
    // How much of what was sent has arrived when the connection breaks is up to the system.
    expect(Number(begins[1])).toBeGreaterThan(0);
    expect(Number(begins[2])).toBeGreaterThan(Number(begins[1]));
  });

  it('is gone on with by a later process', async () => {
    hub.breaks = { times: 5, after: 10_000 };
    expect((await failure()).message).toMatch(/model\.safetensors: broken off.* at byte \d+$/);
    const partial = (await readdir(join(repo, 'blobs'))).find((name) => name.endsWith('.incomplete'))!;
    const { size } = await stat(join(repo, 'blobs', partial));
    expect(size).toBeGreaterThan(0);
    await downloadModel(ID, options);
    expect(hub.seen.at(-1)).toMatchObject({ at: 'cdn', range: `bytes=${size}-` });
  });

  it('begins anew with a server that cannot go on', async () => {
    hub.breaks = { times: 1, after: 10_000 };
    hub.resumes = false;
    const folder = await downloadModel(ID, options);
    expect(await readFile(join(folder, WEIGHTS))).toEqual(hub.files.get(WEIGHTS));
  });

  it('stops when told to', async () => {
    const stop = new AbortController();
    const running = downloadModel(ID, { ...options, signal: stop.signal, onProgress: () => stop.abort() });
    await expect(running).rejects.toMatchObject({ name: 'AbortError' });
  });
});

describe('what is not what the hub says', () => {
  it.each([
    ['other bytes', (bytes: Buffer) => Buffer.from(bytes).fill(7, 500, 501), /digest is not the one/],
    ['too many bytes', (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(9)]), /instead of 88808/],
  ])('%s', async (_, change, message) => {
    hub.replaced = change(hub.files.get(WEIGHTS)!);
    const error = await failure();
    expect(error).toMatchObject({ code: 'engine.hub.corrupt' });
    expect(error.message).toMatch(message);
    expect(await readdir(join(repo, 'blobs'))).not.toContainEqual(expect.stringContaining('incomplete'));
    hub.replaced = undefined;
    await expect(downloadModel(ID, options)).resolves.toBeDefined();
  });

  it.each(['../../evil', ''])('an etag that is no name: "%s"', async (etag) => {
    hub.etag = etag;
    expect(await failure()).toMatchObject({ code: 'engine.hub.failed' });
  });

  it('an index that leaves its folder', async () => {
    hub.files.delete(WEIGHTS);
    const index = { weight_map: { a: '../../../evil.safetensors' } };
    hub.files.set('model.safetensors.index.json', Buffer.from(JSON.stringify(index)));
    expect(await failure()).toMatchObject({ code: 'engine.weights.damaged' });
  });

  it('a repository without safetensors', async () => {
    hub.files.delete(WEIGHTS);
    hub.files.set('small-q4_0.gguf', Buffer.alloc(1));
    expect((await failure()).message).toMatch(
      /no model\.safetensors.*give some-org\/tiny-model\/FILE.*small-q4_0\.gguf/,
    );
  });
});

describe('access', () => {
  it('sends the token to the hub alone, and shows it nowhere', async () => {
    hub.token = TOKEN;
    await downloadModel(ID, { ...options, token: TOKEN });
    expect(hub.seen.filter(({ at }) => at === 'hub').every((s) => s.authorization === `Bearer ${TOKEN}`)).toBe(true);
    const away = hub.seen.filter(({ at }) => at === 'cdn');
    expect(away.length).toBeGreaterThan(0);
    expect(away.every(({ authorization }) => authorization === undefined)).toBe(true);
  });

  it.each([
    ['engine.hub.unauthorized', { status: 401, code: 'RepoNotFound' }, /no such model .*\(401\)/],
    ['engine.hub.forbidden', { status: 403, code: 'GatedRepo' }, /Accept its terms/],
    ['engine.hub.not_found', { status: 404, code: 'RevisionNotFound' }, /no revision main/],
    ['engine.hub.not_found', { status: 404, code: 'RepoNotFound' }, /no such model/],
    ['engine.hub.failed', { status: 400 }, /answered 400/],
    ['engine.hub.unreachable', { status: 503 }, /answered 503/],
  ])('is refused with %s', async (code, refusal, message) => {
    hub.refusal = refusal;
    const error = await failure({ token: TOKEN });
    expect(error).toMatchObject({ code });
    expect(error.message).toMatch(message);
    expect(JSON.stringify([error.message, error.stack, String(error.cause)])).not.toContain(TOKEN);
  });

  it('says how to give a token', async () => {
    hub.token = TOKEN;
    expect((await failure()).message).toMatch(/HF_TOKEN/);
    expect((await failure({ token: 'wrong' })).message).toMatch(/token was not accepted/);
  });
});

describe('without the hub', () => {
  it('uses what is in the cache, offline or when nobody answers', async () => {
    const folder = await downloadModel(ID, options);
    await hub.stop();
    expect(await downloadModel(ID, { ...options, offline: true })).toBe(folder);
    expect(await downloadModel(ID, { ...options, offline: true, revision: HUB_COMMIT })).toBe(folder);
    expect(await downloadModel(ID, options)).toBe(folder);
  });

  it('says what is missing', async () => {
    const none = await failure({ offline: true });
    expect(none).toMatchObject({ code: 'engine.hub.not_cached' });
    await rm(join(await downloadModel(ID, options), WEIGHTS));
    expect((await failure({ offline: true })).message).toMatch(/model\.safetensors is not in .*offline/);
    await hub.stop();
    expect(await failure()).toMatchObject({ code: 'engine.hub.unreachable' });
  });
});

test('settings come from the environment where they are not given', () => {
  const env = { HF_HOME: '/h', HF_ENDPOINT: 'http://mirror/', HF_TOKEN: 't', HF_HUB_OFFLINE: 'YES' };
  expect(hubSettings({}, env)).toMatchObject({
    cacheDir: join('/h', 'hub'),
    endpoint: 'http://mirror',
    token: 't',
    offline: true,
    revision: 'main',
  });
  expect(hubSettings({ offline: false, token: 'own' }, env)).toMatchObject({ offline: false, token: 'own' });
  expect(hubSettings({}, { HF_HUB_CACHE: '/c', HF_HOME: '/h' }).cacheDir).toBe('/c');
  expect(() => hubSettings({ mirror: 'ftp://x' }, {})).toThrow(/no http or https address/);
  expect(() => hubSettings({ revision: '../x' }, {})).toThrow(/no branch, tag or commit/);
});

test('names of the hub are told from paths', async () => {
  expect(['a/b', 'org/name/file.gguf', 'org/name/sub/file.gguf'].every(isHubName)).toBe(true);
  expect(['a', './a/b', '/a/b', '../a', 'a/b/c', 'a/../b.gguf', 'a/b/../c.gguf', 'a//b'].some(isHubName)).toBe(false);
  await expect(loadModel('no-such-model', options)).rejects.toThrow(/there is no model no-such-model/);
});
