/** Figures of a classification, by the definitions of scikit-learn's `precision_recall_fscore_support`. */

export interface ClassMetrics {
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
  /** Rows whose true class it is. */
  readonly support: number;
}

export interface ClassificationMetrics {
  readonly rows: number;
  readonly accuracy: number;
  /** Means over the classes, each counting the same. A ratio with nothing below the line is 0. */
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
  readonly perClass: Readonly<Record<string, ClassMetrics>>;
  /** Rows by true class (outer) and predicted class (inner); pairs that never occurred are absent. */
  readonly confusion: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

const ratio = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole);
const mean = (values: readonly number[]): number =>
  ratio(
    values.reduce((a, b) => a + b, 0),
    values.length,
  );

/** Over the classes that occur as true or predicted. Both lists are of equal length. */
export function classificationMetrics(actual: readonly string[], predicted: readonly string[]): ClassificationMetrics {
  const classes = [...new Set([...actual, ...predicted])].toSorted();
  const confusion = new Map(classes.map((name) => [name, new Map<string, number>()]));
  actual.forEach((name, i) => {
    const row = confusion.get(name)!;
    row.set(predicted[i]!, (row.get(predicted[i]!) ?? 0) + 1);
  });
  const at = (a: string, p: string): number => confusion.get(a)?.get(p) ?? 0;
  const perClass = classes.map((name): [string, ClassMetrics] => {
    const hits = at(name, name);
    const support = classes.reduce((n, p) => n + at(name, p), 0);
    const called = classes.reduce((n, a) => n + at(a, name), 0);
    const precision = ratio(hits, called);
    const recall = ratio(hits, support);
    return [name, { precision, recall, f1: ratio(2 * precision * recall, precision + recall), support }];
  });
  return {
    rows: actual.length,
    accuracy: ratio(
      classes.reduce((n, name) => n + at(name, name), 0),
      actual.length,
    ),
    precision: mean(perClass.map(([, m]) => m.precision)),
    recall: mean(perClass.map(([, m]) => m.recall)),
    f1: mean(perClass.map(([, m]) => m.f1)),
    perClass: Object.fromEntries(perClass),
    confusion: Object.fromEntries([...confusion].map(([name, row]) => [name, Object.fromEntries(row)])),
  };
}
