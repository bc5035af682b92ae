import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isAlive, waitUntil } from '@tuneloop/local/processes';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Door, until } from '../src/door.ts';
import { file, form, jpeg } from '../src/pictures.ts';
import { runCli, type Stack, startStack } from '../src/stack.ts';

const DEATH_MS = 30_000;

let dataDir: string;
let stack: Stack;
/** What has been answered to clients: none of it may ever be missing. */
const ledger = { responses: [] as string[], feedback: [] as string[], images: [] as string[] };

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'tuneloop-kept-'));
  stack = await startStack({ flags: ['--empty'], dataDir });
});
afterAll(async () => {
  await stack?.stop();
  await rm(dataDir, { recursive: true, force: true });
});

it('says that a turn was broken off, not that it promoted', async () => {
  const turn = await startStack({ flags: ['--once'] });
  expect(await turn.stop()).toBe(1);
});

/** A picture, an answer and a rating. */
async function work(seed: number): Promise<void> {
  const door = new Door(stack.url, stack.apiKey);
  const sent = form({ file: file(await jpeg(seed), `${seed}.jpg`) });
  const image = await door.send<{ imageId: string }>('POST', '/functions/v1/upload', { form: sent });
  expect(image.status, image.text).toBe(200);
  const response = await door.post<{ response_id: string }>('/api/v1/responses', { prompt: 'p', response_text: 'r' });
  expect(response.status, response.text).toBe(201);
  const { response_id } = response.body;
  const rated = await door.post<{ id: string }>('/api/v1/feedback', {
    ...{ kind: 'stars', value: 5, response_id, user_id: `user ${seed}` },
  });
  expect(rated.status, rated.text).toBe(201);
  ledger.images.push(image.body.imageId);
  ledger.responses.push(response_id);
  ledger.feedback.push(rated.body.id);
}

/** All that was answered is there, each thing once, with its bytes. */
async function expectKept(): Promise<void> {
  const door = new Door(stack.url, stack.apiKey);
  const ids = async (path: string, key: 'id' | 'response_id') =>
    (await door.get<{ data: Record<string, string>[] }>(`${path}?limit=500`)).body.data
      .map((row) => row[key]!)
      .toSorted();
  expect(await ids('/api/v1/feedback', 'id')).toEqual(ledger.feedback.toSorted());
  const responses = await ids('/api/v1/responses', 'response_id');
  expect(responses.filter((id) => ledger.responses.includes(id))).toEqual(ledger.responses.toSorted());
  expect(await ids('/api/v1/images', 'id')).toEqual(ledger.images.toSorted());
  for (const id of ledger.images) {
    const shown = await fetch(`${stack.url}/api/v1/images/${id}/content`, {
      headers: { authorization: `Bearer ${stack.apiKey}` },
    });
    expect([shown.status, shown.headers.get('content-type')]).toEqual([200, 'image/jpeg']);
  }
  // What follows from it by events comes too: the reward of each rating.
  await until(
    async () => (await door.get<{ rewards: { total: number } }>('/api/v1/statistics')).body.rewards.total,
    (total) => total === ledger.feedback.length,
  );
  expect((await door.get('/api/v1/dead-letters')).body).toEqual({ data: [], unavailable: [] });
}

it('names the process that has the directory, and leaves it alone', async () => {
  await work(1);
  const { status, output } = await runCli(['start', '--empty', '--data', dataDir, '--port', '0'], {
    timeoutMs: 60_000,
  });
  expect(status).toBe(1);
  const holder = Number(/is in use by process (\d+)/.exec(output)?.[1]);
  expect(isAlive(holder), output).toBe(true);
  expect(output).toMatch(/kill \d+.*--data/);
  expect(output).not.toMatch(/\n\s+at .*:\d+:\d+/);
  await work(2);
  await expectKept();
});

it('keeps its data, its key and its address book over an orderly stop', async () => {
  const { apiKey } = stack;
  const pids = Object.values(stack.pids()).map(({ pid }) => pid);
  expect(pids.length).toBeGreaterThanOrEqual(3);
  await stack.stop();
  expect(stack.output()).toContain('Stopping');
  expect(pids.filter((pid) => isAlive(pid))).toEqual([]);
  stack = await startStack({ flags: ['--empty'], dataDir });
  expect(stack.apiKey).toBe(apiKey);
  await expectKept();
  await work(3);
});

it('starts again after it was killed in the middle of work, with all that it had answered', async () => {
  await work(4);
  const children = Object.values(stack.pids()).map(({ pid }) => pid);
  const { status, output } = await runCli(['start', '--empty', '--data', dataDir, '--port', '0'], {
    timeoutMs: 60_000,
  });
  expect(status).toBe(1);
  const holder = Number(/is in use by process (\d+)/.exec(output)?.[1]);
  // Requests under way get no answer, so nothing is owed for them.
  const unanswered = Promise.allSettled(
    Array.from({ length: 20 }, () =>
      new Door(stack.url, stack.apiKey).post('/api/v1/responses', { prompt: 'p', response_text: 'under way' }),
    ),
  );
  process.kill(holder, 'SIGKILL');
  await unanswered;
  expect(await waitUntil(() => !isAlive(holder), DEATH_MS)).toBe(true);
  stack = await startStack({ flags: ['--empty'], dataDir });
  // What the dead process left running has made way for the new.
  expect(children.filter((pid) => isAlive(pid) && !Object.values(stack.pids()).some((now) => now.pid === pid))).toEqual(
    [],
  );
  await expectKept();
  await work(5);
  await expectKept();
});
