/** From cells to what the network takes: standardised numbers and indices into tables of categories. */
import { EngineError } from '../errors.ts';
import { type Feeds, floatTensor, int64Tensor } from '../graph/session.ts';
import {
  categoryOf,
  checkTable,
  type ColumnKind,
  columnOf,
  isMissing,
  lineOf,
  numbersOf,
  type Table,
} from './table.ts';

/** z = (x - mean) / deviation; a missing value is the mean. */
export interface NumericFeature {
  readonly kind: 'numeric';
  readonly name: string;
  readonly mean: number;
  /** Of the whole population, as scikit-learn's StandardScaler; 1 for a constant column. */
  readonly deviation: number;
  /** Values were missing when it was fitted: a second input says whether one is. */
  readonly indicator: boolean;
}

/** Index 0 is for values that were rare or not there when it was fitted, 1 for missing ones, then `values`. */
export interface CategoricalFeature {
  readonly kind: 'categorical';
  readonly name: string;
  readonly values: readonly string[];
}

export type Feature = NumericFeature | CategoricalFeature;

export const UNKNOWN = 0;
const MISSING = 1;
/** Categories that are not values of the column. */
export const RESERVED_CATEGORIES = 2;
/** A column with more is an identifier or free text, not a category. */
const MAX_CATEGORIES = 100_000;

function fitNumeric(table: Table, name: string): NumericFeature {
  const numbers = numbersOf(table, name);
  const present = numbers.filter((x) => !Number.isNaN(x));
  const mean = present.reduce((a, b) => a + b, 0) / (present.length || 1);
  const variance = present.reduce((a, b) => a + (b - mean) ** 2, 0) / (present.length || 1);
  const deviation = variance > 0 ? Math.sqrt(variance) : 1;
  return { kind: 'numeric', name, mean, deviation, indicator: present.length < numbers.length };
}

/** Values seen fewer than `minCount` times stay unknown, so that the unknown index is trained. */
function fitCategorical(table: Table, name: string, minCount: number): CategoricalFeature {
  const counts = new Map<string, number>();
  for (const cell of columnOf(table, name)) {
    if (!isMissing(cell)) counts.set(categoryOf(cell), (counts.get(categoryOf(cell)) ?? 0) + 1);
  }
  const values = [...counts].flatMap(([value, count]) => (count >= minCount ? [value] : [])).toSorted();
  if (values.length > MAX_CATEGORIES) {
    throw new EngineError(
      'engine.classifier.too_many_categories',
      `column ${name} has ${values.length} different values: leave it out or group it (at most ${MAX_CATEGORIES})`,
    );
  }
  return { kind: 'categorical', name, values };
}

export interface ColumnSpec {
  readonly name: string;
  readonly kind: ColumnKind;
}

/** @throws EngineError `engine.classifier.bad_cell`, `no_column`, `too_many_categories` */
export function fitFeatures(table: Table, columns: readonly ColumnSpec[], minCount: number): Feature[] {
  return columns.map(({ name, kind }) =>
    kind === 'numeric' ? fitNumeric(table, name) : fitCategorical(table, name, minCount),
  );
}

/** Encoded rows: what a batch's feeds are gathered from. */
export interface Encoded {
  readonly rows: number;
  /** `[rows, numericWidth]` */
  readonly numeric: Float32Array;
  /** For each categorical feature, its index of each row. */
  readonly categories: readonly BigInt64Array[];
}

export function numericWidth(features: readonly Feature[]): number {
  return features.reduce((n, f) => n + (f.kind === 'numeric' ? (f.indicator ? 2 : 1) : 0), 0);
}

function categoryIndices(table: Table, { name, values }: CategoricalFeature): BigInt64Array {
  const index = new Map(values.map((value, i) => [value, RESERVED_CATEGORIES + i]));
  const cells = columnOf(table, name);
  return BigInt64Array.from(cells, (c) => BigInt(isMissing(c) ? MISSING : (index.get(categoryOf(c)) ?? UNKNOWN)));
}

/** @throws EngineError `engine.classifier.bad_cell`, `no_column`, `bad_table` */
export function encodeFeatures(table: Table, features: readonly Feature[]): Encoded {
  checkTable(table);
  const rows = table.rows.length;
  const width = numericWidth(features);
  const numeric = new Float32Array(rows * width);
  const categories: BigInt64Array[] = [];
  let column = 0;
  for (const feature of features) {
    if (feature.kind === 'categorical') {
      categories.push(categoryIndices(table, feature));
      continue;
    }
    const { mean, deviation, indicator } = feature;
    numbersOf(table, feature.name).forEach((x, row) => {
      const at = row * width + column;
      numeric[at] = Number.isNaN(x) ? 0 : (x - mean) / deviation;
      if (indicator) numeric[at + 1] = Number.isNaN(x) ? 1 : 0;
    });
    column += indicator ? 2 : 1;
  }
  return { rows, numeric, categories };
}

export const FEATURE_INPUT = { numeric: 'numeric', category: (i: number): string => `category:${i}` } as const;

/** Inputs of the network for some of the rows. */
export function featureFeeds(encoded: Encoded, indices: readonly number[]): Feeds {
  const width = encoded.numeric.length / encoded.rows;
  const feeds: Feeds = {};
  if (width > 0) {
    const numeric = new Float32Array(indices.length * width);
    indices.forEach((row, i) => numeric.set(encoded.numeric.subarray(row * width, (row + 1) * width), i * width));
    feeds[FEATURE_INPUT.numeric] = floatTensor(numeric, [indices.length, width]);
  }
  encoded.categories.forEach((column, c) => {
    const chosen = BigInt64Array.from(indices, (row) => column[row]!);
    feeds[FEATURE_INPUT.category(c)] = int64Tensor(chosen, [indices.length]);
  });
  return feeds;
}

/** The class of each row. @throws EngineError `engine.classifier.no_target` naming the line */
export function targetsOf(table: Table, target: string): string[] {
  return columnOf(table, target).map((cell, row) => {
    if (!isMissing(cell)) return categoryOf(cell);
    const message = `line ${lineOf(table, row)}, column ${target}: the class is missing; remove the line or fill it in`;
    throw new EngineError('engine.classifier.no_target', message);
  });
}
