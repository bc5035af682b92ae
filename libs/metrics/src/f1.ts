export interface PrecisionRecallF1 {
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
}

export interface ClassScore extends PrecisionRecallF1 {
  readonly label: string;
  /** Rows whose actual label this is. */
  readonly support: number;
}

export interface ClassificationReport {
  readonly accuracy: number;
  /** Unweighted means over the classes. */
  readonly macro: PrecisionRecallF1;
  readonly perClass: readonly ClassScore[];
}

export type JsonValue = null | boolean | number | string | readonly JsonValue[] | { readonly [key: string]: JsonValue };

/**
 * F1 over the multiset of words, normalised as in SQuAD (Rajpurkar et al. 2016): lower case, without punctuation and
 * without the English articles. Two empty texts agree; one empty text scores 0.
 */
export function tokenF1(prediction: string, reference: string): PrecisionRecallF1 {
  return multisetF1(normalisedWords(prediction), normalisedWords(reference));
}

/**
 * F1 over the leaves of structured output: a leaf is right when its path and value both are. Items of a list of
 * scalars may come in any order; lists of objects are compared item by item. Two empty values agree.
 */
export function fieldF1(predicted: JsonValue, expected: JsonValue): PrecisionRecallF1 {
  return multisetF1(leaves(predicted, '$'), leaves(expected, '$'));
}

/**
 * Accuracy and per-class scores; classes are the labels that occur on either side, sorted. A class never predicted
 * has precision 0, one that never occurs has recall 0 (scikit-learn's `zero_division=0`).
 */
export function classificationReport(actual: readonly string[], predicted: readonly string[]): ClassificationReport {
  if (actual.length !== predicted.length || actual.length === 0) {
    throw new RangeError(`needs as many predictions as rows, at least one: ${predicted.length}, ${actual.length}`);
  }
  const labels = [...new Set([...actual, ...predicted])].toSorted();
  const index = new Map(labels.map((label, i) => [label, i]));
  const tallies = labels.map(() => ({ right: 0, predicted: 0, actual: 0 }));
  actual.forEach((label, row) => {
    const guess = predicted[row]!;
    tallies[index.get(label)!]!.actual++;
    tallies[index.get(guess)!]!.predicted++;
    if (label === guess) tallies[index.get(label)!]!.right++;
  });
  const perClass = tallies.map((tally, i) => ({
    label: labels[i]!,
    support: tally.actual,
    ...scores(tally.right, tally.predicted, tally.actual),
  }));
  const average = (key: keyof PrecisionRecallF1): number =>
    perClass.reduce((sum, score) => sum + score[key], 0) / perClass.length;
  return {
    accuracy: tallies.reduce((sum, tally) => sum + tally.right, 0) / actual.length,
    macro: { precision: average('precision'), recall: average('recall'), f1: average('f1') },
    perClass,
  };
}

function scores(right: number, produced: number, expected: number): PrecisionRecallF1 {
  const precision = produced === 0 ? 0 : right / produced;
  const recall = expected === 0 ? 0 : right / expected;
  return { precision, recall, f1: right === 0 ? 0 : (2 * precision * recall) / (precision + recall) };
}

function multisetF1(produced: readonly string[], expected: readonly string[]): PrecisionRecallF1 {
  if (produced.length === 0 && expected.length === 0) return { precision: 1, recall: 1, f1: 1 };
  const available = new Map<string, number>();
  for (const item of expected) available.set(item, (available.get(item) ?? 0) + 1);
  let right = 0;
  for (const item of produced) {
    const left = available.get(item) ?? 0;
    if (left === 0) continue;
    available.set(item, left - 1);
    right++;
  }
  return scores(right, produced.length, expected.length);
}

function normalisedWords(text: string): string[] {
  return text
    .toLowerCase()
    .replaceAll(/[!-/:-@[-`{-~]/gu, '')
    .replaceAll(/\b(?:a|an|the)\b/gu, ' ')
    .split(/\s+/u)
    .filter((word) => word !== '');
}

function leaves(value: JsonValue, path: string): string[] {
  if (isList(value)) {
    return value.flatMap((item, i) => leaves(item, isScalar(item) ? `${path}[]` : `${path}[${i}]`));
  }
  if (isScalar(value)) return [`${path} = ${JSON.stringify(value)}`];
  return Object.entries(value).flatMap(([key, item]) => leaves(item, `${path}.${JSON.stringify(key)}`));
}

function isList(value: JsonValue): value is readonly JsonValue[] {
  return Array.isArray(value);
}

function isScalar(value: JsonValue): value is null | boolean | number | string {
  return value === null || typeof value !== 'object';
}
