/** Which examples go into which pass of an epoch: shuffled by the seed, grouped by length so that little is padding. */
import { createRandom } from '../random.ts';

/** Rows of one pass; a row is the indices of the examples laid end to end in it. */
export type PlannedBatch = readonly (readonly number[])[];

export interface PlanOptions {
  /** Length of each example in tokens. */
  readonly lengths: ArrayLike<number>;
  readonly batchSize: number;
  readonly seed: number;
  /** Fill rows up to this length with several examples. */
  readonly packTo?: number;
}

/** Rows are sorted by length within windows of this many batches: the order stays random, the padding goes. */
const WINDOW_BATCHES = 16;
/** Rows that packing holds open at once. */
const OPEN_ROWS = 16;

/** Shuffles in place and gives the array back. */
export function shuffle<T>(items: T[], random: () => number): T[] {
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    const item = items[i]!;
    items[i] = items[j]!;
    items[j] = item;
  }
  return items;
}

/** Puts each example into the fullest open row that has room; the row with least room left makes way for a new one. */
function packRows(order: readonly number[], lengths: ArrayLike<number>, limit: number): number[][] {
  const rows: number[][] = [];
  const open: { row: number[]; room: number }[] = [];
  for (const index of order) {
    const length = lengths[index]!;
    let best: { row: number[]; room: number } | undefined;
    for (const candidate of open) {
      if (candidate.room >= length && (best === undefined || candidate.room < best.room)) best = candidate;
    }
    if (best === undefined) {
      best = { row: [], room: limit };
      rows.push(best.row);
      open.push(best);
      if (open.length > OPEN_ROWS) {
        const fullest = open.reduce((a, b) => (b.room < a.room ? b : a));
        open.splice(open.indexOf(fullest), 1);
      }
    }
    best.row.push(index);
    best.room -= length;
  }
  return rows;
}

/** The batches of one epoch. Same options and epoch, same plan. */
export function planEpoch(options: PlanOptions, epoch: number): PlannedBatch[] {
  const random = createRandom(options.seed * 1000003 + epoch);
  const { lengths, batchSize } = options;
  const order = shuffle(
    Array.from({ length: lengths.length }, (_, i) => i),
    random,
  );
  const rows = options.packTo === undefined ? order.map((index) => [index]) : packRows(order, lengths, options.packTo);
  const total = (row: readonly number[]): number => row.reduce((n, i) => n + lengths[i]!, 0);
  const batches: number[][][] = [];
  for (let start = 0; start < rows.length; start += batchSize * WINDOW_BATCHES) {
    const window = rows.slice(start, start + batchSize * WINDOW_BATCHES).toSorted((a, b) => total(a) - total(b));
    for (let i = 0; i < window.length; i += batchSize) batches.push(window.slice(i, i + batchSize));
  }
  return shuffle(batches, random);
}
