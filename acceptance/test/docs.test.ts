import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Door } from '../src/door.ts';
import { type Example, examplesOf, pages, ROOT } from '../src/docs.ts';
import { type Stack, startStack } from '../src/stack.ts';

/**
 * The examples of the documentation, run against a running stack as a reader would, page by page and in order. They
 * see the repository's own files, a folder to write into, and TUNELOOP_URL and TUNELOOP_API_KEY.
 */
const EXAMPLES = pages().flatMap(examplesOf);
const RUNNABLE = EXAMPLES.filter((example) => example.runs);
/** What the repository brings beside the code that is run: a reader stands in its root. */
const FROM_ROOT = ['examples', 'package.json', 'apps', 'libs', 'services', 'infra', 'models', 'node_modules'];
/** Commands that an example may not survive: an answer that is an error, a variable that was never set. */
const STRICT = 'set -euo pipefail; curl() { command curl --fail-with-body "$@"; };\n';

let stack: Stack;
let folder: string;
beforeAll(async () => {
  stack = await startStack({ flags: ['--empty'] });
  folder = await mkdtemp(join(tmpdir(), 'tuneloop-docs-'));
  for (const name of FROM_ROOT) await symlink(join(ROOT, name), join(folder, name));
});
afterAll(async () => {
  await stack?.stop();
  await rm(folder, { recursive: true, force: true });
});

async function execute(program: string, args: readonly string[], input: string): Promise<string> {
  const PATH = [join(ROOT, 'node_modules', '.bin'), process.env.PATH].join(delimiter);
  const child = spawn(program, args, {
    cwd: folder,
    env: { ...process.env, PATH, TUNELOOP_URL: stack.url, TUNELOOP_API_KEY: stack.apiKey },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stdin.end(input);
  const [status] = (await once(child, 'close')) as [number | null];
  if (status !== 0) throw new Error(`ended with status ${status}:\n${output}`);
  return output;
}

async function run(example: Example): Promise<string> {
  if (example.language === 'sh' || example.language === 'bash') return execute('bash', ['-s'], STRICT + example.code);
  // Beside this package's own dependencies, as in a project that has the SDK.
  const script = join(ROOT, 'acceptance', 'test', `.example-${process.pid}.${example.language}`);
  await writeFile(script, example.code);
  try {
    return await execute(process.execPath, [script], '');
  } finally {
    await rm(script);
  }
}

it('every example that asks a running stack is one that runs', () => {
  const asks = EXAMPLES.filter(({ code }) => /curl [^\n]*\$TUNELOOP_URL|from 'openai'/.test(code));
  expect(asks.length).toBeGreaterThan(0);
  expect(asks.filter((example) => !example.runs).map((example) => example.at)).toEqual([]);
  expect(RUNNABLE.map(({ language }) => language).filter((name) => !/^(sh|bash|ts|js)$/.test(name))).toEqual([]);
});

describe('an example of the documentation runs as it stands:', () => {
  it.each(RUNNABLE.map((example) => [example.at, example] as const))('%s', async (_at, example) => {
    await expect(run(example)).resolves.toEqual(expect.any(String));
  });

  it('an example that gets an error for an answer does not pass', async () => {
    const wrong = { at: '', page: '', language: 'sh', runs: true, code: 'curl -s $TUNELOOP_URL/v1/nowhere | cat\n' };
    await expect(run(wrong)).rejects.toThrow('status 22');
  });

  it('the tour has left what it says: a rating by completion id, a request for a turn, a job', async () => {
    const door = new Door(stack.url, stack.apiKey);
    const feedback = await door.get<{ data: object[] }>('/api/v1/feedback');
    expect(feedback.body.data).toMatchObject([{ kind: 'stars', score: 0.5 }]);
    const requests = await door.get<{ data: object[] }>('/api/v1/retraining-requests');
    expect(requests.body.data).toMatchObject([{ reason: 'trying it out' }]);
    const jobs = await door.get<{ data: object[] }>('/v1/fine_tuning/jobs');
    expect(jobs.body.data).toMatchObject([{ model: 'nano' }]);
  });
});
