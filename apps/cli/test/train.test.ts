import { existsSync } from 'node:fs';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readPeftFolder } from '@tuneloop/engine/adapters/peft';
import { readRewardFolder } from '@tuneloop/engine/adapters/rewardHead';
import { initWeights } from '@tuneloop/engine/models/initWeights';
import { loadModelFolder, writeModelFolder } from '@tuneloop/engine/weights/loadModel';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { trainCommand } from '../src/commands/train.ts';
import { RunningCommand, tuneloop } from './engineCommand.ts';
import { refusal } from './refusal.ts';

const NANO = fileURLToPath(new URL('../../../models/nano/base', import.meta.url));
const NOUNS = ['chair', 'lamp', 'jacket', 'bag'];
const COLOURS = ['red', 'blue', 'green', 'black', 'white'];
const pairs = NOUNS.flatMap((noun) => COLOURS.map((colour) => ({ noun, colour })));
const asked = ({ noun, colour }: { noun: string; colour: string }): string => `item: ${noun}\ncolour: ${colour}`;

let folder: string;
const at = (...names: string[]): string => join(folder, ...names);
const jsonl = (rows: readonly unknown[]): string => rows.map((row) => JSON.stringify(row)).join('\n');

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'train-'));
  const chats = pairs.map((pair) => ({
    messages: [
      { role: 'user', content: asked(pair) },
      { role: 'assistant', content: `A ${pair.colour} ${pair.noun}.` },
    ],
  }));
  const preferences = pairs.map((pair) => ({
    prompt: asked(pair),
    chosen: `A ${pair.colour} ${pair.noun}.`,
    rejected: `A pink ${pair.noun}.`,
  }));
  await writeFile(at('chats.jsonl'), jsonl(chats));
  await writeFile(at('pairs.jsonl'), jsonl(preferences));
  await writeFile(at('broken.jsonl'), `${jsonl(chats.slice(0, 2))}\n{"messages": [{"role": "user"}]}\n`);
});
afterAll(() => rm(folder, { recursive: true }));

const train = (output: string, data: string, ...more: string[]) => [
  ...['train', '--base-model', 'nano', '--dataset', data, '--output', output],
  ...['--threads', '1', '--learning-rate', '2e-3', '--lora-r', '4', '--seed', '3', ...more],
];

/** Steps and losses of metrics.csv. */
async function losses(output: string, column = 2): Promise<Map<number, number>> {
  const [header, ...lines] = (await readFile(at(output, 'metrics.csv'), 'utf8')).trimEnd().split('\n');
  expect(header).toMatch(/^step,epoch,loss,eval_loss,/);
  return new Map(lines.map((line) => [Number(line.split(',')[0]), Number(line.split(',')[column])]));
}

it('says what will happen, trains, and writes an adapter with its settings and its curve', async () => {
  const done = await tuneloop(train('sft', 'chats.jsonl', '--epochs', '4', '--validation-split', '0.2'), folder);
  expect(done.stderr).toBe('');
  expect(done.status).toBe(0);
  expect(done.stdout).toMatch(/examples +16 \(4 held out\)/);
  expect(done.stdout).toMatch(/steps +8: 4 epochs in batches of 8/);
  expect(done.stdout).toMatch(/executor +whole-graph: about \S+ [MG]B.*\nexpected +memory \d+ MB, time about \d/);
  const validation = await losses('sft', 3);
  expect([...validation.keys()]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  expect(validation.get(8)).toBeLessThan(0.95 * validation.get(1)!);
  const adapter = await readPeftFolder(at('sft'));
  expect(adapter.config).toMatchObject({ r: 4, alpha: 8 });
  expect(JSON.parse(await readFile(at('sft', 'training_args.json'), 'utf8'))).toMatchObject({
    base_model: 'nano',
    method: 'sft',
    learning_rate: 2e-3,
    seed: 3,
  });
  const manifest = JSON.parse(await readFile(at('sft', 'manifest.json'), 'utf8')) as Record<string, unknown>;
  expect(manifest).toMatchObject({ steps: 8, dataset_sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
  expect(existsSync(at('sft', 'checkpoint'))).toBe(false);

  const again = await tuneloop(train('sft', 'chats.jsonl'), folder);
  expect(again).toMatchObject({ status: 2, stderr: expect.stringContaining('holds a trained adapter') });
});

it('stops at ctrl-C, and resumed ends with the bytes of a run that was not stopped', async () => {
  const settings = ['--epochs', '24', '--batch-size', '4'];
  const whole = tuneloop(train('whole', 'pairs.jsonl', ...settings), folder);
  const stopped = new RunningCommand(train('stopped', 'pairs.jsonl', ...settings), folder);
  await stopped.shows(/^step +1\//m);
  stopped.child.kill('SIGINT');
  const first = await stopped.ended();
  expect(first.status).toBe(130);
  expect(first.stdout).toContain('tuneloop train --resume --output stopped');
  expect(existsSync(at('stopped', 'adapter_model.safetensors'))).toBe(false);

  const fresh = await tuneloop(train('stopped', 'pairs.jsonl', ...settings), folder);
  expect(fresh).toMatchObject({ status: 2, stderr: expect.stringContaining('go on with --resume') });
  const other = await tuneloop(['train', '--resume', '--output', 'stopped', '--learning-rate', '1'], folder);
  expect(other).toMatchObject({ status: 2, stderr: expect.stringContaining('the run began with 0.002') });

  const resumed = await tuneloop(['train', '--resume', '--output', 'stopped'], folder);
  expect(resumed).toMatchObject({ status: 0, stdout: expect.stringMatching(/resuming +after step \d+ of 120/) });
  expect((await whole).status).toBe(0);
  const bytes = (run: string) => readFile(at(run, 'adapter_model.safetensors'));
  expect((await bytes('stopped')).equals(await bytes('whole'))).toBe(true);
  expect(await losses('stopped')).toEqual(await losses('whole'));
});

it('ends early when validation no longer gets better, and keeps the best', async () => {
  const settings = ['--epochs', '60', '--validation-split', '0.2', '--early-stopping', '2', '--learning-rate', '1e-2'];
  const done = await tuneloop(train('early', 'chats.jsonl', ...settings), folder);
  expect(done.status).toBe(0);
  const kept = Number(/kept +step (\d+)/.exec(done.stdout)?.[1]);
  const curve = [...(await losses('early', 3))].filter(([, loss]) => loss > 0);
  expect(Math.min(...curve.map(([, loss]) => loss))).toBe(curve.find(([step]) => step === kept)?.[1]);
  expect(curve.at(-1)![0]).toBeLessThan(120);
  expect(curve.filter(([step]) => step > kept)).toHaveLength(2);
});

it('names the line of a bad example and writes nothing', async () => {
  const failed = await tuneloop(train('none', 'broken.jsonl'), folder);
  expect(failed).toMatchObject({ status: 1, stderr: expect.stringContaining('broken.jsonl:3: ') });
  expect(existsSync(at('none'))).toBe(false);
});

it('refuses data that the method cannot learn from', async () => {
  const failed = await tuneloop(train('none', 'chats.jsonl', '--method', 'dpo'), folder);
  expect(failed).toMatchObject({ status: 1, stderr: expect.stringMatching(/line 1 is a conversation.*--method dpo/) });
});

it('refuses wrong flags by name', async () => {
  const chats = ['--dataset', at('chats.jsonl'), '--output', at('x')];
  const cases: [string[], RegExp][] = [
    [['--epochs', '0'], /--epochs.*whole number from 1/],
    [['--target-modules', 'q_proj,x_proj'], /--target-modules.*give some of q_proj,/],
    [['--memory', '2'], /--memory.*give a size such as 2GB/],
    [['--learning-rate', 'fast'], /--learning-rate.*number above 0/],
    [['--dataset', at('missing.jsonl')], /--dataset.*no such file/],
    [chats, /--base-model is needed/],
    [[...chats, '--validation', at('chats.jsonl'), '--validation-split', '0.1'], /cannot be used with/],
    [[...chats, '--base-model', 'nano', '--early-stopping', '2'], /--early-stopping needs held-out data/],
    [[...chats, '--resume'], /holds no stopped run/],
    [[...chats, '--model-path', folder], /--model-path is for tables/],
  ];
  for (const [args, message] of cases) {
    expect(await refusal(trainCommand(), args)).toMatchObject({ status: 2, message: expect.stringMatching(message) });
  }
});

it('learns from single verdicts, and goes on from an adapter', async () => {
  const verdicts = pairs.slice(0, 8).flatMap((pair) => [
    { prompt: asked(pair), completion: `A ${pair.colour} ${pair.noun}.`, label: true },
    { prompt: asked(pair), completion: 'No idea.', label: false },
  ]);
  await writeFile(at('verdicts.jsonl'), jsonl(verdicts));
  const first = await tuneloop(
    train('kto', 'verdicts.jsonl', '--epochs', '1', '--target-modules', 'q_proj,v_proj'),
    folder,
  );
  expect(first).toMatchObject({ status: 0, stdout: expect.stringMatching(/method +kto/) });
  const more = ['train', '--base-model', 'nano', '--dataset', 'pairs.jsonl', '--adapter', 'kto', '--epochs', '1'];
  expect(await tuneloop([...more, '--threads', '1', '--output', 'dpo'], folder)).toMatchObject({ status: 0 });
  const [from, to] = [await readPeftFolder(at('kto')), await readPeftFolder(at('dpo'))];
  expect(from.config.targets).toEqual(['q_proj', 'v_proj']);
  expect(to.config).toEqual(from.config);
  expect(to.tensors).not.toEqual(from.tensors);
});

it('trains a reward model of several dimensions from pairs', async () => {
  const judged = pairs.slice(0, 8).flatMap((pair) =>
    ['accurate', 'brief'].map((dimension) => ({
      prompt: asked(pair),
      chosen: `A ${pair.colour} ${pair.noun}.`,
      rejected: `A pink and very expensive ${pair.noun}.`,
      dimension,
    })),
  );
  await writeFile(at('judged.jsonl'), jsonl(judged));
  const done = await tuneloop(train('reward', 'judged.jsonl', '--method', 'reward', '--epochs', '3'), folder);
  expect(done).toMatchObject({ status: 0, stdout: expect.stringMatching(/accuracy 1\.00/) });
  expect((await readRewardFolder(at('reward'))).head.dimensions).toEqual(['accurate', 'brief']);
});

it('holds the base in 4 bits when asked, and says what it cannot hold so', async () => {
  // Random, with widths that blocks of 32 divide; nano's are others.
  const { config } = await loadModelFolder(NANO);
  const small = { ...config, hiddenSize: 64, intermediateSize: 96, numLayers: 2, headDim: 16 };
  await writeModelFolder(at('small'), { config: small, weights: initWeights(small, 1) }, { eos: 0 });
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) await copyFile(join(NANO, name), at('small', name));
  const flags = [
    '--dataset',
    'pairs.jsonl',
    '--epochs',
    '2',
    '--threads',
    '1',
    '--load-in-4bit',
    '--executor',
    'layer-wise',
    '--output',
    'quantized',
  ];
  const done = await tuneloop(['train', '--base-model', 'small', ...flags], folder);
  expect(done).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/parameters in 4 bits[^]*executor +layer-wise/),
  });
  expect((await readPeftFolder(at('quantized'))).tensors.size).toBe(14);
  const refused = await tuneloop(['train', '--base-model', 'nano', ...flags, '--output', 'x'], folder);
  expect(refused).toMatchObject({ status: 1, stderr: expect.stringMatching(/down_proj.*blocks of 32/) });
});

it('keeps to the memory it is given, and says what would be needed when it cannot', async () => {
  const refused = await tuneloop(train('none', 'chats.jsonl', '--memory', '20MB', '--dry-run'), folder);
  expect(refused).toMatchObject({ status: 1, stderr: expect.stringMatching(/takes at least about.*0\.02 GB/) });
});

it('only says what would happen in a dry run', async () => {
  const dry = await tuneloop(train('dry', 'pairs.jsonl', '--dry-run'), folder);
  expect(dry).toMatchObject({ status: 0, stdout: expect.stringMatching(/method +dpo[^]*expected +memory/) });
  expect(existsSync(at('dry'))).toBe(false);
});
