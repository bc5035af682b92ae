/** `tuneloop train` for tables: CSV and YAML to a classifier and its figures. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readClassifierFolder, writeClassifierFolder } from '@tuneloop/engine/classifier/classifier';
import { checkTable, inferKind, type Table } from '@tuneloop/engine/classifier/table';
import type { ClassifierTrainOptions } from '@tuneloop/engine/classifier/options';
import { type ClassifierTrainResult, trainClassifier } from '@tuneloop/engine/classifier/train';
import { INTERRUPTED_EXIT } from '../../commands/engineFlags.ts';
import { readCsv } from './csvTable.ts';
import { readTableConfig, type TableConfig } from './tableConfig.ts';

export interface TableFlags {
  readonly dataset: string;
  readonly config: string;
  readonly output: string;
  readonly fineTune: boolean;
  readonly modelPath?: string;
  readonly epochs?: number;
  readonly batchSize?: number;
  readonly learningRate?: number;
  readonly weightDecay?: number;
  readonly validation?: string;
  readonly validationSplit?: number;
  readonly earlyStopping?: number;
  readonly threads: number;
  readonly seed: number;
}

/** Fine-tuning is gentle unless told otherwise: what was learnt should move, not go. */
const FINE_TUNE_RATE = 1e-4;
const LARGEST_TABLE_SHOWN = 12;

type Fitted = Pick<ClassifierTrainOptions, 'columns'>;

function columnsOf(table: Table, config: TableConfig): Fitted {
  if (config.columns === undefined) return {};
  const given = config.columns;
  for (const name of Object.keys(given)) {
    if (!table.columns.includes(name)) {
      throw new Error(`columns.${name}: the table has no such column; its columns are ${table.columns.join(', ')}`);
    }
  }
  const columns = table.columns.flatMap((name) => {
    const kind = given[name];
    if (name === config.target || kind === 'ignore') return [];
    return [{ name, kind: kind ?? inferKind(table, name) }];
  });
  return { columns };
}

async function optionsOf(flags: TableFlags, config: TableConfig): Promise<ClassifierTrainOptions> {
  const { delimiter } = config;
  const table = await readCsv(flags.dataset, delimiter);
  checkTable(table);
  const validation = flags.validation ?? (flags.validationSplit === undefined ? config.validation : undefined);
  const split = flags.validationSplit ?? config.validation_split;
  const held = validation === undefined ? split : await readCsv(validation, delimiter);
  const startFrom = flags.modelPath === undefined ? undefined : await readClassifierFolder(flags.modelPath);
  const patience = flags.earlyStopping ?? config.patience;
  const learningRate = flags.learningRate ?? config.learning_rate ?? (startFrom ? FINE_TUNE_RATE : undefined);
  const epochs = flags.epochs ?? config.epochs;
  const batchSize = flags.batchSize ?? config.batch_size;
  const weightDecay = flags.weightDecay ?? config.weight_decay;
  return {
    table,
    target: config.target,
    threads: flags.threads,
    hyper: {
      seed: flags.seed,
      ...(epochs === undefined ? {} : { epochs }),
      ...(batchSize === undefined ? {} : { batchSize }),
      ...(learningRate === undefined ? {} : { learningRate }),
      ...(weightDecay === undefined ? {} : { weightDecay }),
      ...(patience === undefined ? {} : { patience }),
      ...(config.class_weights === undefined ? {} : { classWeights: config.class_weights }),
    },
    ...(held === undefined ? {} : { validation: held }),
    ...(config.min_category_count === undefined ? {} : { minCategoryCount: config.min_category_count }),
    ...(config.new_classes === undefined ? {} : { newClasses: config.new_classes }),
    // A model that is fine-tuned keeps the columns and widths it was made with.
    ...(startFrom ? { startFrom } : columnsOf(table, config)),
    ...(startFrom || config.hidden === undefined ? {} : { hidden: config.hidden }),
    ...(config.replay === undefined || !startFrom ? {} : { replay: await replayOf(config.replay, config) }),
  };
}

async function replayOf(path: string, config: TableConfig): Promise<{ table: Table; ratio?: number }> {
  const table = await readCsv(path, config.delimiter);
  return { table, ...(config.replay_ratio === undefined ? {} : { ratio: config.replay_ratio }) };
}

function metricsJson(result: ClassifierTrainResult): Readonly<Record<string, unknown>> {
  const { metrics } = result;
  return {
    accuracy: metrics.accuracy,
    precision: metrics.precision,
    recall: metrics.recall,
    f1: metrics.f1,
    evaluated_on: result.evaluatedOn,
    evaluated_rows: metrics.rows,
    training_rows: result.trainingRows,
    validation_rows: result.validationRows,
    best_epoch: result.bestEpoch,
    per_class: metrics.perClass,
    confusion: metrics.confusion,
    epochs: result.history.map((epoch) => ({
      epoch: epoch.epoch,
      loss: epoch.loss,
      validation_loss: epoch.validationLoss ?? null,
      validation_accuracy: epoch.validationAccuracy ?? null,
    })),
  };
}

function show({ metrics, evaluatedOn, bestEpoch }: ClassifierTrainResult): void {
  const figure = (value: number): string => value.toFixed(4);
  console.log(
    `best      epoch ${bestEpoch}; on ${metrics.rows} ${evaluatedOn} rows: accuracy ${figure(metrics.accuracy)}`,
  );
  const named = Object.entries(metrics.perClass);
  const width = Math.max(8, ...named.map(([name]) => name.length)) + 2;
  console.log(`${''.padEnd(width)}precision  recall  f1      rows`);
  for (const [name, { precision, recall, f1, support }] of named.slice(0, LARGEST_TABLE_SHOWN)) {
    console.log(`${name.padEnd(width)}${figure(precision)}     ${figure(recall)}  ${figure(f1)}  ${support}`);
  }
  if (named.length > LARGEST_TABLE_SHOWN) console.log(`… and ${named.length - LARGEST_TABLE_SHOWN} more classes`);
  console.log(
    `${'macro'.padEnd(width)}${figure(metrics.precision)}     ${figure(metrics.recall)}  ${figure(metrics.f1)}`,
  );
}

/** Runs it and gives the exit code. @throws DataError, EngineError with a message for the terminal */
export async function runTableTraining(flags: TableFlags): Promise<number> {
  const config = readTableConfig(flags.config);
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  process.once('SIGINT', onSignal);
  try {
    const options = await optionsOf(flags, config);
    const what = flags.modelPath === undefined ? 'a new classifier' : `fine-tuning ${flags.modelPath}`;
    console.log(`table     ${flags.dataset}: ${options.table.rows.length} rows; predicts ${config.target}; ${what}`);
    const result = await trainClassifier({
      ...options,
      signal: stop.signal,
      onEpoch: ({ epoch, epochs, loss, validationLoss, validationAccuracy }) => {
        const held =
          validationLoss === undefined
            ? ''
            : `  validation ${validationLoss.toFixed(4)}  accuracy ${(validationAccuracy ?? 0).toFixed(4)}`;
        console.log(`epoch ${epoch}/${epochs}  loss ${loss.toFixed(4)}${held}`);
      },
    });
    // The best of the epochs so far is a whole classifier, also when somebody did not want to wait for more.
    await writeClassifierFolder(flags.output, result.classifier);
    const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
    writeFileSync(join(flags.output, 'metrics.json'), json(metricsJson(result)));
    const settings = { ...flags, config, hyper: options.hyper };
    writeFileSync(join(flags.output, 'training_args.json'), json(settings));
    show(result);
    console.log(`wrote     ${flags.output}`);
    return stop.signal.aborted ? INTERRUPTED_EXIT : 0;
  } finally {
    process.off('SIGINT', onSignal);
  }
}
