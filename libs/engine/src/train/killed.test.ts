import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { fixturePath } from '../../fixtures/fixtures.ts';

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tuneloop-killed-'));
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** Runs the training process on a state file; with `killAt`, it dies by SIGKILL in that step. Resolves to its lines. */
async function runProcess(state: string, killAt?: number): Promise<string[]> {
  const child = spawn(
    process.execPath,
    [fixturePath('killableTraining.ts'), join(folder, state), String(killAt ?? '')],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  const lines: string[] = [];
  const exited = once(child, 'exit');
  for await (const line of createInterface({ input: child.stdout })) lines.push(line);
  const [, signal] = await exited;
  expect(signal).toBe(killAt === undefined ? null : 'SIGKILL');
  return lines;
}

test('a run that is killed twice and resumed ends with the same adapter bytes', async () => {
  const digest = (await runProcess('whole')).at(-1);
  expect(digest).toMatch(/^digest [0-9a-f]{64}$/);
  const first = await runProcess('killed', 7);
  const second = await runProcess('killed', 40);
  const last = await runProcess('killed');
  expect([first[0], first.at(-1)]).toEqual(['step 1', 'step 6']);
  expect([second[0], second.at(-1)]).toEqual(['step 7', 'step 39']);
  expect(last[0]).toBe('step 40');
  expect(last.at(-1)).toBe(digest);
});
