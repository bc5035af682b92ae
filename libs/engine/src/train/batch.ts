/**
 * From token rows to the tensors of one pass. A row is one or more segments laid end to end; a segment sees itself and,
 * where it has one, its parent (a prompt shared by several continuations), and its positions go on from its parent's
 * end. Packing, padding and shared prompts are all this one layout.
 */
import { int64Tensor, type Feeds, floatTensor } from '../graph/session.ts';
import { INPUT } from '../models/losses.ts';
import type { TokenIds } from '../types.ts';

export interface Segment {
  readonly ids: TokenIds;
  /** Index in the row of the segment that this one continues. */
  readonly parent?: number;
}

/** "From the state at `column` of the row, predict `label`", counted with `weight` in score `slot`. */
export interface Pick {
  readonly column: number;
  readonly label: number;
  readonly weight: number;
  readonly slot: number;
}

export interface Row {
  readonly segments: readonly Segment[];
  readonly picks: readonly Pick[];
}

export interface Batch {
  readonly feeds: Feeds;
  /** Picks in row order, as their log-probabilities come out. */
  readonly picks: readonly Pick[];
  /** Length of the pick inputs: `picks`, then padding that counts nowhere. */
  readonly picked: number;
  /** Real tokens, padding left out. */
  readonly tokens: number;
}

/** Additive mask value: exp underflows to 0 beside any real score, and no row of all-masked keys gives NaN. */
const MASKED = -1e9;

export function rowLength(row: Row): number {
  return row.segments.reduce((n, s) => n + s.ids.length, 0);
}

/**
 * Lays rows out as `[rows, longest]`. Padding sees only itself and nothing sees it. The pick inputs are padded to a
 * multiple of `chunks`.
 */
export function assemble(rows: readonly Row[], chunks = 1): Batch {
  const seq = rows.reduce((n, row) => Math.max(n, rowLength(row)), 1);
  const count = rows.length;
  const ids = new BigInt64Array(count * seq);
  const positions = new BigInt64Array(count * seq);
  const mask = new Float32Array(count * seq * seq).fill(MASKED);
  const picks: Pick[] = [];
  const indices: number[] = [];
  let tokens = 0;
  rows.forEach((row, r) => {
    const starts: number[] = [];
    const ends: number[] = [];
    const firstPositions: number[] = [];
    let column = 0;
    for (const segment of row.segments) {
      const parent = segment.parent;
      const first =
        parent === undefined ? 0 : (firstPositions[parent] ?? 0) + ((ends[parent] ?? 0) - (starts[parent] ?? 0));
      starts.push(column);
      firstPositions.push(first);
      const start = column;
      for (let t = 0; t < segment.ids.length; t++, column++) {
        ids[r * seq + column] = BigInt(segment.ids[t]!);
        positions[r * seq + column] = BigInt(first + t);
        const line = (r * seq + column) * seq;
        mask.fill(0, line + start, line + column + 1);
        if (parent !== undefined) mask.fill(0, line + (starts[parent] ?? 0), line + (ends[parent] ?? 0));
      }
      ends.push(column);
    }
    tokens += column;
    for (; column < seq; column++) mask[(r * seq + column) * seq + column] = 0;
    for (const pick of row.picks) {
      picks.push(pick);
      indices.push(r * seq + pick.column);
    }
  });
  const picked = Math.ceil(picks.length / chunks) * chunks;
  const labels = new BigInt64Array(picked);
  picks.forEach((pick, i) => {
    labels[i] = BigInt(pick.label);
  });
  const columns = new BigInt64Array(picked);
  indices.forEach((index, i) => {
    columns[i] = BigInt(index);
  });
  return {
    picks,
    picked,
    tokens,
    feeds: {
      [INPUT.ids]: int64Tensor(ids, [count, seq]),
      [INPUT.positions]: int64Tensor(positions, [count, seq]),
      [INPUT.mask]: floatTensor(mask, [count, 1, seq, seq]),
      [INPUT.picks]: int64Tensor(columns, [picked]),
      [INPUT.labels]: int64Tensor(labels, [picked]),
    },
  };
}

/** The weights matrix `[slots, picks]`: entry (s, i) is pick i's weight if its slot is s. */
export function pickWeights({ picks, picked }: Batch, slots: number, factor: number): Feeds {
  const weights = new Float32Array(slots * picked);
  picks.forEach((pick, i) => {
    weights[pick.slot * picked + i] = pick.weight * factor;
  });
  return { [INPUT.weights]: floatTensor(weights, [slots, picked]) };
}
