/** Training and fine-tuning of tabular classifiers. */
import type { InferenceSession } from 'onnxruntime-node';
import { EngineError } from '../errors.ts';
import { createSession, type Feeds, floatOutput, floatTensor } from '../graph/session.ts';
import { createRandom } from '../random.ts';
import { AdamW } from '../train/adamw.ts';
import type { WeightMap } from '../types.ts';
import { type Classifier, networkShape, parameterFeeds, predict } from './classifier.ts';
import { type ColumnSpec, type Encoded, encodeFeatures, featureFeeds, fitFeatures, targetsOf } from './features.ts';
import { type ClassificationMetrics, classificationMetrics } from './metrics.ts';
import { classifierGradient, classifierGraph, initParameters, LOG_PROBS, LOSS, TARGETS } from './network.ts';
import { checkTable, columnOf, inferKind, lineOf, rowsOf, type Table } from './table.ts';

export interface ClassifierHyper {
  /** Default 5. */
  readonly epochs?: number;
  /** Rows of one step (default 32). */
  readonly batchSize?: number;
  /** Constant (default 1e-3). */
  readonly learningRate?: number;
  /** Decoupled, on matrices (default 0.01). */
  readonly weightDecay?: number;
  /** Epochs without a lower validation loss after which training ends (default 5; 0: never). The best epoch is kept. */
  readonly patience?: number;
  /** `balanced`: every class has the same weight in the loss, however many rows it has (default `none`). */
  readonly classWeights?: 'none' | 'balanced';
  readonly seed: number;
}

export interface ClassifierTrainOptions {
  readonly table: Table;
  /** The column to predict. */
  readonly target: string;
  /** What to predict it from; default: every other column, its kind by its cells. Fixed when fine-tuning. */
  readonly columns?: readonly ColumnSpec[];
  /** Widths of the hidden layers (default 64, 32). Fixed when fine-tuning. */
  readonly hidden?: readonly number[];
  /** Categories seen less often count as unknown (default 2). */
  readonly minCategoryCount?: number;
  readonly hyper: ClassifierHyper;
  /** A table of its own, or the share of the rows that is held out (default 0.2; 0: none). */
  readonly validation?: Table | number;
  /** Fine-tune this one: its features, categories and classes stay. The given classifier is not changed. */
  readonly startFrom?: Classifier;
  /** Classes of the table that `startFrom` does not know: an error (default), or new outputs. */
  readonly newClasses?: 'refuse' | 'add';
  /** Earlier rows mixed in so that fine-tuning does not forget: `ratio` of them to one of the table (default 3). */
  readonly replay?: { readonly table: Table; readonly ratio?: number };
  readonly threads?: number;
  /** Stops after the epoch in hand; the best so far is returned. */
  readonly signal?: AbortSignal;
  readonly onEpoch?: (progress: EpochProgress) => void;
}

export interface EpochProgress {
  /** From 1. */
  readonly epoch: number;
  readonly epochs: number;
  readonly loss: number;
  readonly validationLoss?: number;
  readonly validationAccuracy?: number;
}

export interface ClassifierTrainResult {
  readonly classifier: Classifier;
  /** On the held-out rows, or on the training rows when none were held out. */
  readonly metrics: ClassificationMetrics;
  readonly evaluatedOn: 'validation' | 'training';
  readonly history: readonly EpochProgress[];
  /** Whose weights are returned. */
  readonly bestEpoch: number;
  readonly trainingRows: number;
  readonly validationRows: number;
}

const DEFAULT_HIDDEN = [64, 32];
const DEFAULT_VALIDATION = 0.2;
const DEFAULT_REPLAY_RATIO = 3;
/** With fewer rows nothing is held out unless a table is given: the figures would say nothing. */
const MIN_ROWS_TO_SPLIT = 10;
const MAX_CLASSES = 10_000;
/** Steps, of well under a millisecond each, between two turns of the event loop. */
const STEPS_A_TURN = 64;

function badHyper(field: string, rule: string, found: unknown): EngineError {
  return new EngineError('engine.classifier.bad_hyper', `${field} must be ${rule}, found ${String(found)}`);
}

function checkOptions({ hyper, hidden = DEFAULT_HIDDEN, validation = 0, replay }: ClassifierTrainOptions): void {
  const whole = { epochs: hyper.epochs ?? 1, batchSize: hyper.batchSize ?? 1 };
  for (const [field, value] of Object.entries(whole)) {
    if (!Number.isInteger(value) || value < 1) throw badHyper(field, 'an integer of at least 1', value);
  }
  if (!((hyper.learningRate ?? 1) > 0)) throw badHyper('learningRate', 'above 0', hyper.learningRate);
  if (!((hyper.weightDecay ?? 0) >= 0)) throw badHyper('weightDecay', 'at least 0', hyper.weightDecay);
  if (!((hyper.patience ?? 0) >= 0)) throw badHyper('patience', 'at least 0', hyper.patience);
  if (hidden.length === 0 || hidden.some((width) => !Number.isInteger(width) || width < 1)) {
    throw badHyper('hidden', 'at least one width of at least 1', hidden.join());
  }
  if (typeof validation === 'number' && !(validation >= 0 && validation < 1)) {
    throw badHyper('validation', 'a share of at least 0 and below 1', validation);
  }
  if (replay && !((replay.ratio ?? 1) > 0)) throw badHyper('replay.ratio', 'above 0', replay.ratio);
}

function shuffled(count: number, random: () => number): number[] {
  const order = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

function split({ table, validation = DEFAULT_VALIDATION, hyper }: ClassifierTrainOptions): [Table, Table | undefined] {
  if (typeof validation !== 'number') return [table, validation];
  const rows = table.rows.length;
  if (validation === 0 || rows < MIN_ROWS_TO_SPLIT) return [table, undefined];
  const order = shuffled(rows, createRandom(hyper.seed));
  const held = Math.max(1, Math.round(rows * validation));
  return [rowsOf(table, order.slice(held)), rowsOf(table, order.slice(0, held))];
}

/** Earlier rows beside the new ones, columns in the new table's order. */
function withReplay(table: Table, { replay, hyper }: ClassifierTrainOptions): Table {
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
function prepare(options: ClassifierTrainOptions, training: Table, targets: readonly string[]): Classifier {
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

interface Labelled {
  readonly encoded: Encoded;
  readonly labels: Int32Array;
  /** Of each row in the loss. */
  readonly weights: Float64Array;
}

function labelled(table: Table, classifier: Classifier, balance: boolean): Labelled {
  const index = new Map(classifier.classes.map((name, i) => [name, i]));
  const labels = Int32Array.from(targetsOf(table, classifier.target), (name) => index.get(name)!);
  const counts = new Float64Array(classifier.classes.length);
  for (const label of labels) counts[label]!++;
  const present = counts.reduce((n, count) => n + (count > 0 ? 1 : 0), 0);
  // scikit-learn's `balanced`: rows / (classes * rows of the class).
  const weights = Float64Array.from(labels, (label) => (balance ? labels.length / (present * counts[label]!) : 1));
  return { encoded: encodeFeatures(table, classifier.features), labels, weights };
}

/** Feeds of a batch whose loss is the weighted mean over its rows, as torch.nn.CrossEntropyLoss(weight). */
function batchFeeds(data: Labelled, rows: readonly number[], classes: number): Feeds {
  const total = rows.reduce((n, row) => n + data.weights[row]!, 0);
  const targets = new Float32Array(rows.length * classes);
  rows.forEach((row, i) => {
    targets[i * classes + data.labels[row]!] = data.weights[row]! / total;
  });
  return { ...featureFeeds(data.encoded, rows), [TARGETS]: floatTensor(targets, [rows.length, classes]) };
}

async function trainEpoch(
  run: { session: InferenceSession; optimizer: AdamW; parameters: Feeds; classes: number },
  data: Labelled,
  order: readonly number[],
  hyper: ClassifierHyper,
  firstStep: number,
): Promise<{ loss: number; steps: number }> {
  const batchSize = hyper.batchSize ?? 32;
  const { parameters: list } = run.optimizer;
  let loss = 0;
  let steps = 0;
  for (let start = 0; start < order.length; start += batchSize) {
    const rows = order.slice(start, start + batchSize);
    const outputs = await run.session.run({ ...run.parameters, ...batchFeeds(data, rows, run.classes) });
    const batchLoss = floatOutput(outputs, LOSS)[0]!;
    if (!Number.isFinite(batchLoss)) {
      const message = `the loss is ${batchLoss} at step ${firstStep + steps + 1}: lower the learning rate`;
      throw new EngineError('engine.classifier.diverged', message);
    }
    loss += (batchLoss * rows.length) / order.length;
    steps++;
    if (steps % STEPS_A_TURN === 0) await new Promise(setImmediate); // Signals and timers get a turn.
    const gradients = list.map(({ name }) => floatOutput(outputs, classifierGradient(name)));
    run.optimizer.update(gradients, firstStep + steps, hyper.learningRate ?? 1e-3, 1);
  }
  return { loss, steps };
}

/** Mean loss and accuracy over rows, unweighted. */
async function evaluate(
  session: InferenceSession,
  parameters: Feeds,
  data: Labelled,
  classes: number,
): Promise<{ validationLoss: number; validationAccuracy: number }> {
  const rows = Array.from({ length: data.labels.length }, (_, i) => i);
  const outputs = await session.run({ ...parameters, ...featureFeeds(data.encoded, rows) }, [LOG_PROBS]);
  const logProbs = floatOutput(outputs, LOG_PROBS);
  let loss = 0;
  let right = 0;
  data.labels.forEach((label, row) => {
    const of = logProbs.subarray(row * classes, (row + 1) * classes);
    loss -= of[label]!;
    if (of.every((value, i) => i === label || value < of[label]!)) right++;
  });
  return { validationLoss: loss / rows.length, validationAccuracy: right / rows.length };
}

/** AdamW over shuffled batches; ends with the weights of the best epoch in `classifier`. */
async function fit(
  classifier: Classifier,
  training: Labelled,
  validation: Labelled | undefined,
  options: ClassifierTrainOptions,
): Promise<Pick<ClassifierTrainResult, 'history' | 'bestEpoch'>> {
  const { hyper, signal, onEpoch, threads = 1 } = options;
  const { epochs = 5, patience = 5 } = hyper;
  const classes = classifier.classes.length;
  const shape = networkShape(classifier);
  const parameters = parameterFeeds(classifier.weights);
  const list = [...classifier.weights].map(([name, { dims, data }]) => ({ name, dims, data }));
  const optimizer = new AdamW(list, { betas: [0.9, 0.999], eps: 1e-8, weightDecay: hyper.weightDecay ?? 0.01 });
  const session = await createSession(classifierGraph(shape, true), { threads });
  const scoring = validation && (await createSession(classifierGraph(shape, false), { threads }));
  const history: EpochProgress[] = [];
  let best = { epoch: 0, loss: Infinity, weights: [] as Float32Array[] };
  let step = 0;
  try {
    for (let epoch = 1; epoch <= epochs; epoch++) {
      const order = shuffled(training.labels.length, createRandom(hyper.seed * 1_000_003 + epoch));
      const { loss, steps } = await trainEpoch(
        { session, optimizer, parameters, classes },
        training,
        order,
        hyper,
        step,
      );
      step += steps;
      const held = validation && scoring && (await evaluate(scoring, parameters, validation, classes));
      history.push({ epoch, epochs, loss, ...held });
      onEpoch?.(history.at(-1)!);
      // Without held-out rows the last epoch is the best.
      if (held === undefined || held.validationLoss < best.loss) {
        best = { epoch, loss: held?.validationLoss ?? Infinity, weights: list.map(({ data }) => data.slice()) };
      }
      await new Promise(setImmediate);
      if (signal?.aborted === true || (held && patience > 0 && epoch - best.epoch >= patience)) break;
    }
  } finally {
    await session.release();
    await scoring?.release();
  }
  list.forEach(({ data }, i) => data.set(best.weights[i]!));
  return { history, bestEpoch: best.epoch };
}

/**
 * Trains a classifier on a table, or fine-tunes one: cross-entropy, AdamW, early stopping. The same options and rows
 * give the same bytes, for one ONNX Runtime version, thread count and CPU.
 *
 * @throws EngineError `engine.classifier.*`: bad cells and missing classes name line and column
 */
export async function trainClassifier(options: ClassifierTrainOptions): Promise<ClassifierTrainResult> {
  checkOptions(options);
  checkTable(options.table);
  const [own, validationTable] = split(options);
  const training = withReplay(own, options);
  const held = validationTable === undefined ? [] : targetsOf(validationTable, options.target);
  const targets = [...targetsOf(training, options.target), ...held];
  const classifier = prepare(options, training, targets);
  const balance = options.hyper.classWeights === 'balanced';
  const validation = validationTable && labelled(validationTable, classifier, false);
  const run = await fit(classifier, labelled(training, classifier, balance), validation, options);
  const evaluated = validationTable ?? training;
  const { labels } = await predict(classifier, evaluated, options.threads ?? 1);
  return {
    classifier,
    metrics: classificationMetrics(targetsOf(evaluated, options.target), labels),
    evaluatedOn: validationTable === undefined ? 'training' : 'validation',
    ...run,
    trainingRows: training.rows.length,
    validationRows: validationTable?.rows.length ?? 0,
  };
}
