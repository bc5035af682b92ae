/** One line of the report: a figure, what it is held against, and their ratio. */
export interface Result {
  readonly name: string;
  readonly value: string;
  /** Named reference, measured in the same run. */
  readonly reference: string;
  readonly ratio: number | null;
  readonly method: string;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
