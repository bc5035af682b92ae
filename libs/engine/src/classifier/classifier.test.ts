import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { readFixture, relativeError } from '../../fixtures/fixtures.ts';
import { createRandom } from '../random.ts';
import { createSession, floatOutput, floatTensor } from '../graph/session.ts';
import {
  type Classifier,
  networkShape,
  parameterFeeds,
  predict,
  readClassifierFolder,
  writeClassifierFolder,
} from './classifier.ts';
import { encodeFeatures, featureFeeds, fitFeatures } from './features.ts';
import { classificationMetrics } from './metrics.ts';
import { classifierGradient, classifierGraph, LOSS, parameterShapes, TARGETS } from './network.ts';
import type { Cell, Table } from './table.ts';
import type { ClassifierTrainOptions } from './options.ts';
import { trainClassifier } from './train.ts';

interface Fixture {
  readonly table: Table;
  readonly hidden: number[];
  readonly numeric: number[];
  readonly plan: number[];
  readonly city: number[];
  readonly parameters: Record<string, { dims: number[]; data: number[] }>;
  readonly gradients: Record<string, number[]>;
  readonly losses: number[];
  readonly final: Record<string, number[]>;
  readonly metrics: {
    readonly actual: string[];
    readonly predicted: string[];
    readonly accuracy: number;
    readonly macro: number[];
    readonly per_class: Record<string, number[]>;
  };
}

let fixture: Fixture;
/** The network of the fixture with the weights PyTorch began with. */
let reference: Classifier;

beforeAll(async () => {
  fixture = await readFixture<Fixture>('classifier.json');
  const features = fitFeatures(
    fixture.table,
    [
      { name: 'amount', kind: 'numeric' },
      { name: 'age', kind: 'numeric' },
      { name: 'plan', kind: 'categorical' },
      { name: 'city', kind: 'categorical' },
    ],
    2,
  );
  const bare = { target: 'outcome', classes: ['ask', 'leave', 'stay'], features, hidden: fixture.hidden };
  const shapes = parameterShapes({ features, hidden: fixture.hidden, classes: 3 });
  const weights = new Map(
    [...shapes].map(([name, dims]) => {
      expect(fixture.parameters[name]?.dims).toEqual(dims);
      return [name, { dims, data: Float32Array.from(fixture.parameters[name]!.data) }];
    }),
  );
  reference = { ...bare, weights };
});

const COLOURS = ['red', 'blue', 'green'];

/** Rows whose class follows from the columns: `round` is small and red, `flat` is large, `odd` all else. */
function shapesTable(rows: number, seed: number, classOf?: (size: number, colour: string) => string): Table {
  const random = createRandom(seed);
  const rule = classOf ?? ((size, colour) => (size > 6 ? 'flat' : colour === 'red' ? 'round' : 'odd'));
  const made = Array.from({ length: rows }, (): Cell[] => {
    const size = random() * 10;
    const colour = COLOURS[Math.floor(random() * COLOURS.length)]!;
    return [size.toFixed(3), colour, rule(size, colour)];
  });
  return { columns: ['size', 'colour', 'shape'], rows: made };
}

const training = (table: Table, more: Partial<ClassifierTrainOptions> = {}): ClassifierTrainOptions => ({
  table,
  target: 'shape',
  hyper: { epochs: 30, learningRate: 0.01, seed: 4 },
  ...more,
});

describe('against scikit-learn and PyTorch', () => {
  it('encodes numbers, missing values and categories alike', () => {
    const encoded = encodeFeatures(fixture.table, reference.features);
    expect(relativeError(encoded.numeric, fixture.numeric)).toBeLessThan(1e-6);
    expect(encoded.categories.map((column) => Array.from(column, Number))).toEqual([fixture.plan, fixture.city]);
  });

  it('has the loss and the gradients of every parameter', async () => {
    const encoded = encodeFeatures(fixture.table, reference.features);
    const labels = fixture.table.rows.map((row) => reference.classes.indexOf(String(row[4])));
    const counts = reference.classes.map((_, c) => labels.filter((label) => label === c).length);
    const weights = labels.map((label) => 1 / counts[label]!);
    const total = weights.reduce((a, b) => a + b, 0);
    const targets = new Float32Array(labels.length * 3);
    labels.forEach((label, row) => (targets[row * 3 + label] = weights[row]! / total));
    const session = await createSession(classifierGraph(networkShape(reference), true), { threads: 1 });
    const outputs = await session.run({
      ...parameterFeeds(reference.weights),
      ...featureFeeds(encoded, [...labels.keys()]),
      [TARGETS]: floatTensor(targets, [labels.length, 3]),
    });
    expect(floatOutput(outputs, LOSS)[0]).toBeCloseTo(fixture.losses[0]!, 5);
    for (const [name, expected] of Object.entries(fixture.gradients)) {
      expect(relativeError(floatOutput(outputs, classifierGradient(name)), expected), name).toBeLessThan(1e-4);
    }
    await session.release();
  });

  it('takes the same ten AdamW steps with balanced classes', async () => {
    const { history, classifier } = await trainClassifier({
      table: fixture.table,
      target: 'outcome',
      startFrom: reference,
      validation: 0,
      hyper: { epochs: 10, batchSize: 96, learningRate: 0.02, weightDecay: 0.01, classWeights: 'balanced', seed: 1 },
    });
    expect(
      relativeError(
        history.map((epoch) => epoch.loss),
        fixture.losses,
      ),
    ).toBeLessThan(1e-5);
    for (const [name, expected] of Object.entries(fixture.final)) {
      expect(relativeError(classifier.weights.get(name)!.data, expected), name).toBeLessThan(1e-4);
    }
  });

  it('gives the metrics of scikit-learn, also for classes never predicted or never true', () => {
    const { actual, predicted, accuracy, macro, per_class } = fixture.metrics;
    const metrics = classificationMetrics(actual, predicted);
    expect(metrics.accuracy).toBeCloseTo(accuracy, 12);
    expect(relativeError([metrics.precision, metrics.recall, metrics.f1], macro)).toBeLessThan(1e-12);
    for (const [name, expected] of Object.entries(per_class)) {
      const { precision, recall, f1, support } = metrics.perClass[name]!;
      expect(relativeError([precision, recall, f1, support], expected), name).toBeLessThan(1e-12);
    }
    expect(Object.keys(metrics.perClass)).toEqual(Object.keys(per_class));
    expect(metrics.confusion['b']?.['b']).toBeUndefined();
  });
});

describe('trainClassifier', () => {
  it('learns a rule over numbers and categories, and tells it for rows it has not seen', async () => {
    const { classifier, metrics, evaluatedOn, validationRows } = await trainClassifier(training(shapesTable(600, 1)));
    expect({ evaluatedOn, validationRows }).toEqual({ evaluatedOn: 'validation', validationRows: 120 });
    expect(metrics.accuracy).toBeGreaterThan(0.95);
    expect(metrics.f1).toBeGreaterThan(0.93);
    const unseen: Table = {
      columns: ['colour', 'size'],
      rows: [
        ['red', 1],
        ['blue', '9.5'],
        [' green ', 2],
        ['violet', 9],
        [null, 9],
      ],
    };
    const { labels, confidences } = await predict(classifier, unseen);
    expect(labels).toEqual(['round', 'flat', 'odd', 'flat', 'flat']);
    expect(confidences.every((p) => p > 1 / 3 && p <= 1)).toBe(true);
  });

  it('gives the same bytes for the same seed, and others for another', async () => {
    const table = shapesTable(80, 2);
    const bytes = async (seed: number): Promise<string> => {
      const { classifier } = await trainClassifier(training(table, { hyper: { epochs: 2, seed } }));
      return JSON.stringify([...classifier.weights].map(([name, { data }]) => [name, [...data]]));
    };
    const first = await bytes(4);
    expect(await bytes(4)).toBe(first);
    expect(await bytes(5)).not.toBe(first);
  });

  it('stops when the held-out loss stays up, and keeps the best epoch', async () => {
    // Classes without a rule: what is learnt on the training rows makes the others worse.
    const random = createRandom(9);
    const table = shapesTable(60, 3, () => (random() < 0.5 ? 'a' : 'b'));
    const hyper = { epochs: 200, learningRate: 0.02, patience: 3, seed: 4 };
    const { history, bestEpoch, classifier, metrics } = await trainClassifier(training(table, { hyper }));
    const losses = history.map((epoch) => epoch.validationLoss!);
    expect(history.length).toBe(bestEpoch + 3);
    expect(losses.indexOf(Math.min(...losses)) + 1).toBe(bestEpoch);
    expect(metrics.accuracy).toBeCloseTo(history[bestEpoch - 1]!.validationAccuracy!, 10);
    const whole = await trainClassifier(training(table, { hyper: { ...hyper, epochs: bestEpoch } }));
    expect([...classifier.weights]).toEqual([...whole.classifier.weights]);
  });

  it('fine-tunes: features stay, new classes are refused by name or added, and replay keeps the old ones', async () => {
    const before = shapesTable(400, 5);
    const { classifier } = await trainClassifier(training(before));
    // Later, large green ones are called something new; no other rows come in.
    const all = shapesTable(300, 6, (size, colour) => (size > 6 && colour === 'green' ? 'leaf' : 'none'));
    const later: Table = { ...all, rows: all.rows.filter((row) => row[2] === 'leaf') };
    const fineTune = { startFrom: classifier, validation: 0 };
    await expect(trainClassifier(training(later, fineTune))).rejects.toMatchObject({
      code: 'engine.classifier.new_classes',
      message: expect.stringMatching(/does not know the class leaf \(it knows flat, odd, round\)/),
    });
    const hyper = { epochs: 15, learningRate: 0.01, seed: 1 };
    const add = { ...fineTune, hyper, newClasses: 'add' as const };
    const forgetful = await trainClassifier(training(later, add));
    const small = shapesTable(200, 7, (size, colour) => (size > 6 ? 'flat' : colour === 'red' ? 'round' : 'odd'));
    const known: Table = { ...small, rows: small.rows.filter((row) => row[1] !== 'green') };
    const accuracy = async (tuned: Classifier, table: Table): Promise<number> => {
      const { labels } = await predict(tuned, table);
      return labels.filter((label, i) => label === table.rows[i]![2]).length / labels.length;
    };
    const replayed = await trainClassifier(training(later, { ...add, replay: { table: before, ratio: 6 } }));
    expect(replayed.classifier.classes).toEqual(['flat', 'odd', 'round', 'leaf']);
    expect(replayed.classifier.features).toEqual(classifier.features);
    expect(await accuracy(replayed.classifier, known)).toBeGreaterThan(0.9);
    expect(await accuracy(forgetful.classifier, known)).toBeLessThan(0.5);
    expect(await accuracy(forgetful.classifier, later)).toBeGreaterThan(0.9);
    expect(classifier.classes).toHaveLength(3);
  });

  it('holds what an aborted run has learnt', async () => {
    const stop = new AbortController();
    const { history, classifier } = await trainClassifier(
      training(shapesTable(50, 8), { signal: stop.signal, onEpoch: ({ epoch }) => epoch === 2 && stop.abort() }),
    );
    expect(history).toHaveLength(2);
    expect((await predict(classifier, shapesTable(3, 1))).labels).toHaveLength(3);
  });

  it.each<[string, Partial<ClassifierTrainOptions>, RegExp]>([
    [
      'bad_cell',
      {
        table: {
          columns: ['size', 'shape'],
          rows: [
            ['1', 'a'],
            ['big', 'b'],
          ],
        },
        columns: [{ name: 'size', kind: 'numeric' }],
      },
      /line 2, column size: big is not a number/,
    ],
    [
      'no_target',
      {
        table: {
          columns: ['size', 'shape'],
          rows: [
            ['1', 'a'],
            ['2', ''],
          ],
          lines: [2, 9],
        },
      },
      /line 9, column shape: the class is missing/,
    ],
    ['no_column', { target: 'form' }, /no column form; its columns are size, colour, shape/],
    ['no_column', { columns: [{ name: 'weight', kind: 'numeric' }] }, /no column weight/],
    [
      'one_class',
      {
        table: {
          columns: ['size', 'shape'],
          rows: [
            ['1', 'a'],
            ['2', 'a'],
          ],
        },
      },
      /only the class a/,
    ],
    [
      'bad_table',
      { table: { columns: ['size', 'shape'], rows: [['1', 'a'], ['2']], lines: [2, 3] } },
      /line 3 has 1 cells, the table has 2/,
    ],
    ['bad_hyper', { hyper: { epochs: 0, seed: 1 } }, /epochs must be an integer of at least 1, found 0/],
    ['bad_hyper', { validation: 1 }, /validation must be a share/],
  ])('refuses with %s', async (code, options, message) => {
    const run = trainClassifier(training(shapesTable(20, 1), options));
    await expect(run).rejects.toMatchObject({
      code: `engine.classifier.${code}`,
      message: expect.stringMatching(message) as string,
    });
  });
});

describe('folders', () => {
  it('bring back what was written, and say what is damaged', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'classifier-'));
    try {
      await writeClassifierFolder(folder, reference);
      const read = await readClassifierFolder(folder);
      expect(read).toEqual(reference);
      expect((await predict(read, fixture.table)).logProbs).toEqual((await predict(reference, fixture.table)).logProbs);
      const config = await readFile(join(folder, 'classifier.json'), 'utf8');
      await writeFile(join(folder, 'classifier.json'), config.replace('"hidden": [\n    6', '"hidden": [\n    7'));
      await expect(readClassifierFolder(folder)).rejects.toThrow(/numeric\.weight is not of shape \[7, 3\]/);
      await writeFile(join(folder, 'classifier.json'), config.replace('"version": 1', '"version": 9'));
      await expect(readClassifierFolder(folder)).rejects.toMatchObject({ code: 'engine.classifier.damaged' });
      await rm(join(folder, 'classifier.json'));
      await expect(readClassifierFolder(folder)).rejects.toMatchObject({ code: 'engine.classifier.missing_file' });
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
