/** A trained classifier: what it is, what it predicts, and its folder. */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EngineError } from '../errors.ts';
import { createSession, type Feeds, floatOutput, floatTensor } from '../graph/session.ts';
import { isJsonObject } from '../json.ts';
import type { WeightMap } from '../types.ts';
import { decodeSafetensors, encodeSafetensors } from '../weights/safetensors.ts';
import { encodeFeatures, type Feature, featureFeeds } from './features.ts';
import { classifierGraph, LOG_PROBS, type NetworkShape, parameterShapes } from './network.ts';
import type { Table } from './table.ts';

export interface Classifier {
  /** The column it predicts. */
  readonly target: string;
  /** In the order of the output's columns. */
  readonly classes: readonly string[];
  readonly features: readonly Feature[];
  readonly hidden: readonly number[];
  readonly weights: WeightMap;
}

export interface Predictions {
  /** The likeliest class of each row. */
  readonly labels: readonly string[];
  /** Its probability. */
  readonly confidences: Float32Array;
  /** `[rows, classes]` */
  readonly logProbs: Float32Array;
}

const CONFIG_FILE = 'classifier.json';
const WEIGHTS_FILE = 'classifier.safetensors';
const FORMAT_VERSION = 1;
/** Rows in one pass. */
const PREDICT_ROWS = 4096;

export function networkShape({ features, hidden, classes }: Omit<Classifier, 'weights' | 'target'>): NetworkShape {
  return { features, hidden, classes: classes.length };
}

export function parameterFeeds(weights: WeightMap): Feeds {
  return Object.fromEntries([...weights].map(([name, { dims, data }]) => [name, floatTensor(data, dims)]));
}

/**
 * Classes and log-probabilities for the rows of a table. The target's column may be absent.
 * @throws EngineError `engine.classifier.bad_cell | no_column | bad_table` naming line and column
 */
export async function predict(classifier: Classifier, table: Table, threads = 1): Promise<Predictions> {
  const encoded = encodeFeatures(table, classifier.features);
  const { classes } = classifier;
  const logProbs = new Float32Array(encoded.rows * classes.length);
  const session = await createSession(classifierGraph(networkShape(classifier), false), { threads });
  try {
    const parameters = parameterFeeds(classifier.weights);
    for (let start = 0; start < encoded.rows; start += PREDICT_ROWS) {
      const count = Math.min(PREDICT_ROWS, encoded.rows - start);
      const rows = Array.from({ length: count }, (_, i) => start + i);
      const outputs = await session.run({ ...parameters, ...featureFeeds(encoded, rows) }, [LOG_PROBS]);
      logProbs.set(floatOutput(outputs, LOG_PROBS), start * classes.length);
    }
  } finally {
    await session.release();
  }
  const best = Array.from({ length: encoded.rows }, (_, row) => likeliest(logProbs, row, classes.length));
  return {
    labels: best.map((index) => classes[index]!),
    confidences: Float32Array.from(best, (index, row) => Math.exp(logProbs[row * classes.length + index]!)),
    logProbs,
  };
}

function likeliest(logProbs: Float32Array, row: number, width: number): number {
  let best = 0;
  for (let i = 1; i < width; i++) if (logProbs[row * width + i]! > logProbs[row * width + best]!) best = i;
  return best;
}

/** Writes `classifier.json` and `classifier.safetensors`, each by a rename. The same classifier gives the same bytes. */
export async function writeClassifierFolder(folder: string, classifier: Classifier): Promise<void> {
  const { target, classes, features, hidden, weights } = classifier;
  await mkdir(folder, { recursive: true });
  const config = { version: FORMAT_VERSION, target, classes, hidden, features };
  for (const [file, content] of [
    [WEIGHTS_FILE, encodeSafetensors(weights)],
    [CONFIG_FILE, `${JSON.stringify(config, null, 2)}\n`],
  ] as const) {
    await writeFile(join(folder, `${file}.partial`), content);
    await rename(join(folder, `${file}.partial`), join(folder, file));
  }
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function isFeature(value: unknown): value is Feature {
  if (!isJsonObject(value) || typeof value['name'] !== 'string') return false;
  if (value['kind'] === 'categorical') return isStrings(value['values']);
  const numbers = Number.isFinite(value['mean']) && Number.isFinite(value['deviation']);
  return value['kind'] === 'numeric' && numbers && typeof value['indicator'] === 'boolean';
}

function parseConfig(text: string, path: string): Omit<Classifier, 'weights'> {
  const bad = (why: string): EngineError => new EngineError('engine.classifier.damaged', `${path}: ${why}`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw bad('it is not JSON');
  }
  if (!isJsonObject(json)) throw bad('it is not an object');
  const { version, target, classes, hidden, features } = json;
  if (version !== FORMAT_VERSION) throw bad(`version ${String(version)}; this one reads ${FORMAT_VERSION}`);
  if (typeof target !== 'string' || !isStrings(classes)) throw bad('target and classes must be text');
  if (!Array.isArray(hidden) || hidden.length === 0 || !hidden.every((n) => Number.isInteger(n) && n > 0)) {
    throw bad('hidden must be widths');
  }
  if (!Array.isArray(features) || !features.every(isFeature)) throw bad('features are not what was written');
  return { target, classes, features, hidden: hidden as number[] };
}

/** @throws EngineError `engine.classifier.missing_file`, `engine.classifier.damaged`, `engine.weights.damaged` */
export async function readClassifierFolder(folder: string): Promise<Classifier> {
  const read = async (file: string): Promise<Buffer> => {
    try {
      return await readFile(join(folder, file));
    } catch (cause) {
      const message = `cannot read ${join(folder, file)}: give a folder that tuneloop wrote a classifier to`;
      throw new EngineError('engine.classifier.missing_file', message, { cause });
    }
  };
  const config = parseConfig((await read(CONFIG_FILE)).toString('utf8'), join(folder, CONFIG_FILE));
  const found = await decodeSafetensors(await read(WEIGHTS_FILE), join(folder, WEIGHTS_FILE));
  const weights: WeightMap = new Map();
  for (const [name, dims] of parameterShapes(networkShape(config))) {
    const tensor = found.get(name);
    if (tensor?.dims.join() !== dims.join()) {
      const message = `${join(folder, WEIGHTS_FILE)}: ${name} is not of shape [${dims.join(', ')}]`;
      throw new EngineError('engine.classifier.damaged', message);
    }
    weights.set(name, tensor);
  }
  return { ...config, weights };
}
