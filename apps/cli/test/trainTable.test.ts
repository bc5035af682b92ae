import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { predict, readClassifierFolder } from '@tuneloop/engine/classifier/classifier';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { trainCommand } from '../src/commands/train.ts';
import { type Ran, tuneloop } from './engineCommand.ts';
import { refusal } from './refusal.ts';

let folder: string;
const at = (...names: string[]): string => join(folder, ...names);

const CITIES = ['Oslo', 'Bergen', 'Tromsø, north'];

/** A log whose outcome follows from amount and city; some amounts are missing. */
function log(rows: number, late = false): string {
  const lines = Array.from({ length: rows }, (_, i) => {
    const amount = (i * 37) % 100;
    const city = CITIES[i % 3]!;
    const outcome = late && amount > 80 ? 'review' : amount > 50 || city === 'Oslo' ? 'accept' : 'refuse';
    return [`order-${i}`, i % 13 === 4 ? '' : amount, `"${city}"`, outcome].join();
  });
  return `id,amount,city,outcome\n${lines.join('\n')}\n`;
}

const CONFIG = `# what to learn
target: outcome
columns:
  id: ignore
hidden: [32]
batch_size: 16
`;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'table-'));
  await writeFile(at('log.csv'), log(300));
  await writeFile(at('late.csv'), log(120, true));
  await writeFile(at('model.yaml'), CONFIG);
});
afterAll(() => rm(folder, { recursive: true }));

const train = (data: string, config: string, output: string, ...more: string[]): Promise<Ran> =>
  tuneloop(
    ['train', '--dataset', data, '--config', config, '--output-dir', output, '--random-seed', '42', ...more],
    folder,
  );

interface Figures {
  readonly accuracy: number;
  readonly f1: number;
  readonly evaluated_on: string;
  readonly per_class: Record<string, { precision: number; recall: number; f1: number; support: number }>;
}
const figures = async (output: string): Promise<Figures> =>
  JSON.parse(await readFile(at(output, 'metrics.json'), 'utf8')) as Figures;

it('trains a classifier on a table, says how good it is, and fine-tunes it to new rows', async () => {
  const trained = await train('log.csv', 'model.yaml', 'first', '--epochs', '30', '--learning-rate', '0.01');
  expect(trained).toMatchObject({ status: 0, stderr: '' });
  expect(trained.stdout).toMatch(/epoch 1\/30 .*validation/);
  expect(trained.stdout).toMatch(/macro +[01]\.\d{4}/);
  const first = await figures('first');
  expect(first).toMatchObject({ evaluated_on: 'validation' });
  expect(first.accuracy).toBeGreaterThan(0.85);
  expect(Object.keys(first.per_class)).toEqual(['accept', 'refuse']);
  const classifier = await readClassifierFolder(at('first'));
  expect(classifier.features.map((feature) => [feature.name, feature.kind])).toEqual([
    ['amount', 'numeric'],
    ['city', 'categorical'],
  ]);
  const seen = {
    columns: ['amount', 'city'],
    rows: [
      [90, 'Bergen'],
      [10, 'Tromsø, north'],
      [10, 'Oslo'],
    ],
  };
  expect((await predict(classifier, seen)).labels).toEqual(['accept', 'refuse', 'accept']);

  const fineTune = ['--fine-tune', '--model-path', 'first', '--learning-rate', '0.01', '--epochs', '30'];
  const refused = await train('late.csv', 'model.yaml', 'second', ...fineTune);
  expect(refused).toMatchObject({ status: 1, stderr: expect.stringMatching(/does not know the class review/) });
  await writeFile(at('add.yaml'), `${CONFIG}new_classes: add\nreplay: log.csv\nreplay_ratio: 1\n`);
  expect(await train('late.csv', 'add.yaml', 'second', ...fineTune)).toMatchObject({ status: 0 });
  const tuned = await readClassifierFolder(at('second'));
  expect(tuned.classes).toEqual(['accept', 'refuse', 'review']);
  expect((await figures('second')).accuracy).toBeGreaterThan(0.7);
});

it('gives the same model for the same seed', async () => {
  for (const output of ['one', 'two']) expect((await train('log.csv', 'model.yaml', output)).status).toBe(0);
  const bytes = (output: string) => readFile(at(output, 'classifier.safetensors'));
  expect((await bytes('one')).equals(await bytes('two'))).toBe(true);
});

it('names line and column of what is wrong in the table and in its configuration', async () => {
  await writeFile(at('short.csv'), 'a,outcome\n1,x\n"two\nlines",y\n3\n');
  await writeFile(at('words.csv'), 'amount,outcome\n1,x\n2,y\nmany,x\n');
  await writeFile(at('words.yaml'), 'target: outcome\ncolumns: {amount: numeric}\n');
  await writeFile(at('typo.yaml'), 'target: outcome\n\nhiden: [4]\n');
  await writeFile(at('kind.yaml'), 'target: outcome\ncolumns:\n  a: numeric\n  b: number\n');
  const cases: [string, string, RegExp][] = [
    ['short.csv', 'model.yaml', /short\.csv:5: has 1 cells, the header has 2/],
    ['words.csv', 'words.yaml', /line 4, column amount: many is not a number/],
    ['log.csv', 'typo.yaml', /typo\.yaml:3: hiden/],
    ['log.csv', 'kind.yaml', /kind\.yaml:4: columns\.b: .*numeric/],
    ['words.csv', 'model.yaml', /columns\.id: the table has no such column; its columns are amount, outcome/],
  ];
  for (const [data, config, message] of cases) {
    const args = ['--dataset', at(data), '--config', at(config), '--output', at('none')];
    expect(await refusal(trainCommand(), args)).toMatchObject({ status: 1, message: expect.stringMatching(message) });
  }
});

it('refuses flags that do not go with a table', async () => {
  const table = ['--dataset', at('log.csv'), '--output', at('x')];
  const cases: [string[], RegExp][] = [
    [table, /--config is needed to train on a table/],
    [[...table, '--config', at('model.yaml'), '--lora-r', '4'], /--lora-r is for language/],
    [[...table, '--config', at('model.yaml'), '--fine-tune'], /needs --model-path/],
  ];
  for (const [args, message] of cases) {
    expect(await refusal(trainCommand(), args)).toMatchObject({ status: 2, message: expect.stringMatching(message) });
  }
});
