import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { initLora } from '@tuneloop/engine/adapters/lora';
import { readPeftFolder, writePeftFolder } from '@tuneloop/engine/adapters/peft';
import { createRandom } from '@tuneloop/engine/random';
import { LORA_TARGETS } from '@tuneloop/engine/types';
import { withGgufFile } from '@tuneloop/engine/weights/gguf';
import { loadModelFolder } from '@tuneloop/engine/weights/loadModel';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Command } from 'commander';
import { exportCommand } from '../src/commands/export.ts';
import { generateCommand } from '../src/commands/generate.ts';
import { mergeCommand } from '../src/commands/merge.ts';
import { type Ran, tuneloop } from './engineCommand.ts';
import { refusal } from './refusal.ts';

const NANO = fileURLToPath(new URL('../../../models/nano/base', import.meta.url));
const FACTS =
  'Item: cat\nCategory: animals\nColour: brown\nBackground: charcoal\nLight: left\nOrientation: landscape\nSize: small';

let folder: string;
const at = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'generate-'));
  const { config } = await loadModelFolder(NANO);
  const lora = initLora(config, { r: 4, alpha: 8, targets: LORA_TARGETS, dropout: 0 }, 1);
  const random = createRandom(2);
  // A fresh adapter changes nothing: this one does.
  for (const { b } of lora.tensors.values()) b.data.forEach((_, i) => (b.data[i] = random() - 0.5));
  await writePeftFolder(at('adapter'), lora, 'nano');
  const chats = [FACTS, FACTS.replace('brown', 'blue')].map((content) => ({ messages: [{ role: 'user', content }] }));
  await writeFile(at('chats.jsonl'), chats.map((chat) => JSON.stringify(chat)).join('\n'));
  await writeFile(at('answered.jsonl'), JSON.stringify({ messages: [{ role: 'assistant', content: 'x' }] }));
  await writeFile(
    at('schema.json'),
    JSON.stringify({ type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'] }),
  );
});
afterAll(() => rm(folder, { recursive: true }));

const generate = (...args: string[]): Promise<Ran> => tuneloop(['generate', '--threads', '1', ...args], folder);

interface Answer {
  readonly index: number;
  readonly text: string;
  readonly finish_reason: string;
  readonly seed: number;
}
const answers = (ran: Ran): Answer[] => {
  expect(ran).toMatchObject({ status: 0, stderr: '' });
  return ran.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Answer);
};

it('answers a prompt: the same seed gives the same answer, streamed or not', async () => {
  const args = ['--model', 'nano', '--prompt', FACTS, '--seed', '5', '--max-tokens', '48'];
  const plain = await generate(...args);
  expect(plain).toMatchObject({ status: 0, stdout: expect.stringMatching(/cat.*\n$/) });
  expect(await generate(...args, '--stream')).toEqual(plain);
  const several = answers(await generate(...args, '--n', '3', '--json'));
  expect(several.map(({ seed }) => seed)).toEqual([5, 6, 7]);
  expect(`${several[0]!.text}\n`).toBe(plain.stdout);
});

it('ends at a stop text, and holds to a JSON schema', async () => {
  const [stopped] = answers(
    await generate('--model', 'nano', '--prompt', FACTS, '--temperature', '0', '--stop', 'cat', '--json'),
  );
  expect(stopped).toMatchObject({ finish_reason: 'stop', text: expect.not.stringContaining('cat') });
  const held = await generate('--model', 'nano', '--prompt', FACTS, '--json-schema', 'schema.json', '--seed', '1');
  expect(JSON.parse(held.stdout)).toEqual({ ok: expect.any(Boolean) });
});

it('finds the base in the adapter, and merged weights answer like base and adapter', async () => {
  const greedy = ['--chat', 'chats.jsonl', '--temperature', '0', '--max-tokens', '24'];
  const texts = async (...args: string[]) => answers(await generate(...greedy, ...args)).map(({ text }) => text);
  const adapted = await texts('--adapter', 'adapter');
  expect(adapted).toHaveLength(2);
  expect(adapted).not.toEqual(await texts('--model', 'nano'));
  expect((await tuneloop(['merge', '--adapter', 'adapter', '--output', 'merged'], folder)).status).toBe(0);
  expect(await texts('--model', 'merged')).toEqual(adapted);
  const { eosTokenIds } = await loadModelFolder(at('merged'));
  expect(eosTokenIds).toEqual([0]);
});

it('exports an adapter alone, and a merged model', async () => {
  const exported = await tuneloop(['export', '--adapter', 'adapter', '--format', 'peft', '--output', 'alone'], folder);
  expect(exported).toMatchObject({ status: 0 });
  expect((await readdir(at('alone'))).toSorted()).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
  expect(await readPeftFolder(at('alone'))).toEqual(await readPeftFolder(at('adapter')));
  const model = ['export', '--model', 'nano', '--adapter', 'adapter', '--format', 'safetensors', '--output', 'model'];
  expect((await tuneloop(model, folder)).status).toBe(0);
  expect((await readdir(at('model'))).toSorted()).toEqual([
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
  ]);
});

it('exports GGUF: the whole model, which answers as before, and the adapter alone', async () => {
  const greedy = ['--prompt', FACTS, '--temperature', '0', '--max-tokens', '24', '--json'];
  const [before] = answers(await generate('--adapter', 'adapter', ...greedy));
  const both = ['--model', 'nano', '--adapter', 'adapter', '--format', 'gguf'];
  const whole = await tuneloop(['export', ...both, '--type', 'F32', '--output', 'out/whole.gguf'], folder);
  expect(whole).toMatchObject({ status: 0, stdout: 'wrote out/whole.gguf\n' });
  const [after] = answers(await generate('--model', 'out/whole.gguf', ...greedy));
  expect(after!.text).toBe(before!.text);
  const alone = await tuneloop(['export', '--adapter', 'adapter', '--format', 'gguf', '--output', 'lora.gguf'], folder);
  expect(alone).toMatchObject({ status: 0 });
  const header = await withGgufFile(at('lora.gguf'), ({ metadata }) => Promise.resolve(metadata));
  expect([header.get('general.type'), header.get('adapter.lora.alpha')]).toEqual(['adapter', 8]);
  // A folder from a GGUF file brings its tokenizer with it.
  const back = ['export', '--model', 'out/whole.gguf', '--format', 'safetensors', '--output', 'back'];
  expect((await tuneloop(back, folder)).status).toBe(0);
  expect(answers(await generate('--model', 'back', ...greedy))[0]!.text).toBe(before!.text);
});

it('reads a prompt from standard input and goes on with plain text', () => {
  const bin = fileURLToPath(new URL('../src/bin.ts', import.meta.url));
  const args = [bin, 'generate', '--model', 'nano', '--plain-text', '--temperature', '0', '--threads', '1'];
  const ran = spawnSync(process.execPath, args, {
    cwd: folder,
    input: `<|user|>${FACTS}<|answer|>\n`,
    encoding: 'utf8',
  });
  expect(ran).toMatchObject({ status: 0, stdout: expect.stringContaining('cat') });
});

it('refuses what it cannot answer, by name', async () => {
  const cases: [() => Command, string[], number, RegExp][] = [
    [generateCommand, ['--prompt', 'x'], 2, /give --model, --adapter or both/],
    [generateCommand, ['--model', 'nano', '--prompt', ' '], 2, /the prompt is empty/],
    [generateCommand, ['--model', 'nano', '--prompt', 'x', '--top-p', '2'], 2, /--top-p.*above 0 and at most 1/],
    [generateCommand, ['--model', 'nowhere', '--prompt', 'x'], 1, /there is no model nowhere/],
    [generateCommand, ['--model', 'nano', '--chat', at('answered.jsonl')], 1, /jsonl:1: the last message is an answer/],
    [mergeCommand, ['--output', at('x')], 2, /--adapter/],
    [exportCommand, ['--model', 'nano', '--format', 'gguf', '--output', at('x')], 2, /ends in \.gguf/],
    [exportCommand, ['--model', 'nano', '--format', 'peft', '--output', at('x')], 2, /for adapters: give --adapter/],
  ];
  for (const [command, args, status, message] of cases) {
    expect(await refusal(command(), args)).toMatchObject({ status, message: expect.stringMatching(message) });
  }
});
