import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readPeftFolder } from '@tuneloop/engine/adapters/peft';
import { afterAll, beforeAll, expect, it } from 'vitest';

const PAGE = fileURLToPath(new URL('../../../docs/fine-tuning.md', import.meta.url));
const BIN = fileURLToPath(new URL('../src/bin.ts', import.meta.url));
const NANO = fileURLToPath(new URL('../../../models/nano/base', import.meta.url));
/** Where a bare import of the engine resolves. */
const PACKAGE = fileURLToPath(new URL('..', import.meta.url));
const MODEL = 'models/SmolLM2-135M-Instruct';

interface Block {
  readonly language: string;
  readonly name: string;
  readonly text: string;
}

let folder: string;
let blocks: Block[];

beforeAll(async () => {
  const page = await readFile(PAGE, 'utf8');
  blocks = [...page.matchAll(/^```(\w+) ?(\S*)\n(.*?)^```$/gms)].map(([, language = '', name = '', text = '']) => ({
    language,
    name,
    text,
  }));
  folder = await mkdtemp(join(tmpdir(), 'page-'));
  await mkdir(join(folder, 'models'));
  await cp(NANO, join(folder, MODEL), { recursive: true });
  for (const { name, text } of blocks) if (name.includes('.')) await writeFile(join(folder, name), text);
});
afterAll(() => rm(folder, { recursive: true }));

async function run(command: string, args: readonly string[], cwd: string): Promise<void> {
  const child = spawn(command, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const [status] = (await once(child, 'close')) as [number | null];
  expect(status, said).toBe(0);
}

it('shows commands that work, in the order of the page, on the data it shows', async () => {
  const scripts = blocks.filter(({ language, name }) => language === 'sh' && name === '');
  expect(scripts.length).toBeGreaterThanOrEqual(4);
  // nano's widths are no multiples of 32: the commands are the same without rounding it.
  const commands = scripts.map(({ text }) => text.replaceAll(' --load-in-4bit', '')).join('\n');
  const shell = `set -eu; tuneloop() { "${process.execPath}" "${BIN}" "$@"; };\n${commands}`;
  await run('bash', ['-c', shell], folder);
  for (const adapter of ['sft', 'peft', 'dpo', 'kto', 'qlora', 'small']) {
    expect((await readPeftFolder(join(folder, 'out', adapter))).config.r).toBe(16);
  }
  const answers = (await readFile(join(folder, 'answers.jsonl'), 'utf8')).trimEnd().split('\n');
  expect(answers).toHaveLength(4);
  for (const path of [
    'merged/model.safetensors',
    'classifier/metrics.json',
    'reward/reward_head.json',
    'classifier-2/classifier.json',
  ]) {
    expect(existsSync(join(folder, 'out', path)), path).toBe(true);
  }
});

it('shows a program that works', async () => {
  const [program] = blocks.filter(({ language }) => language === 'ts');
  const code = program!.text.replaceAll(`'${MODEL}'`, `'${join(folder, MODEL)}'`).replace("'out/", `'${folder}/out/`);
  await run(process.execPath, ['--input-type=module-typescript', '--eval', code], PACKAGE);
  expect((await readPeftFolder(join(folder, 'out', 'from-program'))).config).toMatchObject({ r: 16, alpha: 32 });
});
