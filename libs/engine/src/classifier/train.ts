/** Training and fine-tuning of tabular classifiers. */
import type { InferenceSession } from 'onnxruntime-node';
import { EngineError } from '../errors.ts';
import { createSession, type Feeds, floatOutput, floatTensor } from '../graph/session.ts';
import { createRandom } from '../random.ts';
import { AdamW } from '../train/adamw.ts';
import { type Classifier, networkShape, parameterFeeds, predict } from './classifier.ts';
import { featureFeeds, targetsOf } from './features.ts';
import { type ClassificationMetrics, classificationMetrics } from './metrics.ts';
import { classifierGradient, classifierGraph, LOG_PROBS, LOSS, TARGETS } from './network.ts';
import { checkOptions, type ClassifierHyper, type ClassifierTrainOptions, type EpochProgress } from './options.ts';
import { type Labelled, labelled, prepare, shuffled, split, withReplay } from './prepare.ts';
import { checkTable } from './table.ts';

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

/** Steps, of well under a millisecond each, between two turns of the event loop. */
const STEPS_A_TURN = 64;

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
