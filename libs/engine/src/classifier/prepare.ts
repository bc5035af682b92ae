/** From tables to what the network is trained on: rows held out, replayed, encoded; the network they need. */
import { EngineError } from '../errors.ts';
import { createRandom } from '../random.ts';
import type { WeightMap } from '../types.ts';
import { type Classifier, networkShape } from './classifier.ts';
import { type Encoded, encodeFeatures, fitFeatures, targetsOf } from './features.ts';
import { initParameters } from './network.ts';
import { badHyper, type ClassifierTrainOptions, DEFAULT_HIDDEN } from './options.ts';
import { checkTable, columnOf, inferKind, lineOf, rowsOf, type Table } from './table.ts';

const DEFAULT_VALIDATION = 0.2;
const DEFAULT_REPLAY_RATIO = 3;
/** With fewer rows nothing is held out unless a table is given: the figures would say nothing. */
const MIN_ROWS_TO_SPLIT = 10;
const MAX_CLASSES = 10_000;

export function shuffled(count: number, random: () => number): number[] {
  const order = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

/** Training rows and held-out rows. */
export function split({
  table,
  validation = DEFAULT_VALIDATION,
  hyper,
}: ClassifierTrainOptions): [Table, Table | undefined] {
  if (typeof validation !== 'number') return [table, validation];
  const rows = table.rows.length;
  if (validation === 0 || rows < MIN_ROWS_TO_SPLIT) return [table, undefined];
  const order = shuffled(rows, createRandom(hyper.seed));
  const held = Math.max(1, Math.round(rows * validation));
  return [rowsOf(table, order.slice(held)), rowsOf(table, order.slice(0, held))];
}

/** Earlier rows beside the new ones, columns in the new table's order. */
export function withReplay(table: Table, { replay, hyper }: ClassifierTrainOptions): Table {
  if (replay === undefined) return table;
  checkTable(replay.table);
  const wanted = Math.min(
    replay.table.rows.length,
    Math.round(table.rows.length * (replay.ratio ?? DEFAULT_REPLAY_RATIO)),
  );
  const chosen = shuffled(replay.table.rows.length, createRandom(hyper.seed + 1)).slice(0, wanted);
  const drawn = rowsOf(replay.table, chosen);
  const columns = table.columns.map((name) => columnOf(drawn, name));
  const rows = drawn.rows.map((_, i) => columns.map((cells) => cells[i]!));
  const lines = [...table.rows.map((_, i) => lineOf(table, i)), ...(drawn.lines ?? [])];
  return { columns: table.columns, rows: [...table.rows, ...rows], lines };
}

/** A network with the classes of the data; when fine-tuning, with those it had first and new ones after them. */
export function prepare(options: ClassifierTrainOptions, training: Table, targets: readonly string[]): Classifier {
  const { target, startFrom, hyper } = options;
  const found = [...new Set(targets)].toSorted();
  if (found.length > MAX_CLASSES) {
    const message = `column ${target} has ${found.length} different values: it is no class (at most ${MAX_CLASSES})`;
    throw new EngineError('engine.classifier.too_many_classes', message);
  }
  if (startFrom !== undefined) return extended(startFrom, options, found);
  if (found.length < 2) {
    const message = `column ${target} has only the class ${found.join()}: at least two are needed`;
    throw new EngineError('engine.classifier.one_class', message);
  }
  const others = training.columns.filter((name) => name !== target);
  const columns = options.columns ?? others.map((name) => ({ name, kind: inferKind(training, name) }));
  if (columns.length === 0 || columns.some(({ name }) => name === target)) {
    const why = columns.length === 0 ? 'there is no column to predict from' : `column ${target} is the target`;
    throw new EngineError('engine.classifier.no_column', `${why}: name the columns to predict from`);
  }
  const features = fitFeatures(training, columns, options.minCategoryCount ?? 2);
  const bare = { target, classes: found, features, hidden: [...(options.hidden ?? DEFAULT_HIDDEN)] };
  return { ...bare, weights: initParameters(networkShape(bare), hyper.seed) };
}

function extended(start: Classifier, options: ClassifierTrainOptions, found: readonly string[]): Classifier {
  if (options.columns !== undefined || options.hidden !== undefined) {
    throw badHyper('columns and hidden', 'left out when fine-tuning: they are those of the model', 'them');
  }
  if (start.target !== options.target) throw badHyper('target', `${start.target}, as in the model`, options.target);
  const weights: WeightMap = new Map(
    [...start.weights].map(([name, { dims, data }]) => [name, { dims, data: data.slice() }]),
  );
  const added = found.filter((name) => !start.classes.includes(name));
  if (added.length === 0) return { ...start, weights };
  if (options.newClasses !== 'add') {
    throw new EngineError(
      'engine.classifier.new_classes',
      `the model does not know the class ${added.join(', ')} (it knows ${start.classes.join(', ')}): remove those rows, ` +
        'or set new_classes to add and replay earlier rows',
    );
  }
  const bare = { ...start, classes: [...start.classes, ...added] };
  // Old outputs keep their weights; new ones begin as in a fresh network.
  const fresh = initParameters(networkShape(bare), options.hyper.seed);
  for (const name of ['output.weight', 'output.bias']) {
    const tensor = fresh.get(name)!;
    tensor.data.set(start.weights.get(name)!.data);
    weights.set(name, tensor);
  }
  return { ...bare, weights };
}

export interface Labelled {
  readonly encoded: Encoded;
  readonly labels: Int32Array;
  /** Of each row in the loss. */
  readonly weights: Float64Array;
}

export function labelled(table: Table, classifier: Classifier, balance: boolean): Labelled {
  const index = new Map(classifier.classes.map((name, i) => [name, i]));
  const labels = Int32Array.from(targetsOf(table, classifier.target), (name) => index.get(name)!);
  const counts = new Float64Array(classifier.classes.length);
  for (const label of labels) counts[label]!++;
  const present = counts.reduce((n, count) => n + (count > 0 ? 1 : 0), 0);
  // scikit-learn's `balanced`: rows / (classes * rows of the class).
  const weights = Float64Array.from(labels, (label) => (balance ? labels.length / (present * counts[label]!) : 1));
  return { encoded: encodeFeatures(table, classifier.features), labels, weights };
}
