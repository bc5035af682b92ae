import type { ModelConfig } from '../types.ts';

/** Capacity grows by this many positions. A multiple of every vector width, so results do not depend on the capacity. */
export const CACHE_BLOCK = 64;

/**
 * Keys and values of the sequences in a batch, per layer `[rows, kvHeads, positions, headDim]`, in arrays that the graph
 * reads in place. Rows `0 … count - 1` are in use; releasing one moves the last row into its place, so that the rows in
 * use always lie together. All rows share one capacity in positions, which grows by blocks and shrinks again when half
 * of it would do. What lies beyond a row's length is stale but finite, and the caller masks it.
 */
export class KvCache {
  readonly #layers: number;
  readonly #heads: number;
  readonly #headDim: number;
  #rowCapacity = 0;
  #positions = 0;
  #keys: Float32Array[];
  #values: Float32Array[];
  /** Positions filled in each row in use. */
  readonly #lengths: number[] = [];

  constructor(config: ModelConfig) {
    this.#layers = config.numLayers;
    this.#heads = config.numKvHeads;
    this.#headDim = config.headDim;
    this.#keys = Array.from({ length: config.numLayers }, () => new Float32Array(0));
    this.#values = Array.from({ length: config.numLayers }, () => new Float32Array(0));
  }

  get count(): number {
    return this.#lengths.length;
  }

  /** Capacity in positions: the `past` dimension of a run over {@link view}. */
  get positions(): number {
    return this.#positions;
  }

  length(row: number): number {
    return this.#lengths[row] ?? 0;
  }

  /** Makes room for `rows` rows of `positions` positions; rows in use keep what they hold. */
  reserve(rows: number, positions: number): void {
    const wanted = Math.ceil(positions / CACHE_BLOCK) * CACHE_BLOCK;
    const shrink = wanted * 2 <= this.#positions;
    const newPositions = shrink ? wanted : Math.max(wanted, this.#positions);
    const newRows = rows > this.#rowCapacity ? Math.max(rows, this.#rowCapacity * 2) : this.#rowCapacity;
    if (newPositions === this.#positions && newRows === this.#rowCapacity) return;
    const regrow = (from: Float32Array): Float32Array => {
      const to = new Float32Array(newRows * this.#heads * newPositions * this.#headDim);
      this.#lengths.forEach((length, row) => {
        for (let head = 0; head < this.#heads; head++) {
          const block = row * this.#heads + head;
          const start = block * this.#positions * this.#headDim;
          to.set(from.subarray(start, start + length * this.#headDim), block * newPositions * this.#headDim);
        }
      });
      return to;
    };
    this.#keys = this.#keys.map(regrow);
    this.#values = this.#values.map(regrow);
    this.#positions = newPositions;
    this.#rowCapacity = newRows;
  }

  /** Opens row `count`, empty; room for it must have been reserved. */
  open(): number {
    if (this.count >= this.#rowCapacity) throw new Error('no row was reserved');
    return this.#lengths.push(0) - 1;
  }

  /** Opens a row that starts as a copy of `row`. */
  fork(row: number): number {
    const to = this.open();
    this.#copyRow(row, to);
    this.#lengths[to] = this.length(row);
    return to;
  }

  /** Closes a row. The last row takes its place: its number is returned, or undefined when the row was the last. */
  release(row: number): number | undefined {
    const last = this.count - 1;
    const length = this.#lengths.pop();
    if (row === last || length === undefined) return undefined;
    this.#copyRow(last, row);
    this.#lengths[row] = length;
    return last;
  }

  #copyRow(from: number, to: number): void {
    const size = this.#heads * this.#positions * this.#headDim;
    for (const arrays of [this.#keys, this.#values]) {
      for (const data of arrays) data.copyWithin(to * size, from * size, (from + 1) * size);
    }
  }

  /** The arrays of `rows` rows from `first`, `[rows, kvHeads, positions, headDim]`: windows, not copies. */
  view(layer: number, first: number, rows: number): { key: Float32Array; value: Float32Array } {
    const size = this.#heads * this.#positions * this.#headDim;
    const cut = (data: Float32Array): Float32Array => data.subarray(first * size, (first + rows) * size);
    return { key: cut(this.#keys[layer]!), value: cut(this.#values[layer]!) };
  }

  /**
   * Appends `seq` positions to `rows` rows from `first`.
   * @param fresh by layer, `[rows or more, seq, kvHeads * headDim]`
   */
  append(first: number, rows: number, seq: number, fresh: readonly { key: Float32Array; value: Float32Array }[]): void {
    for (let row = 0; row < rows; row++) {
      const at = this.length(first + row);
      if (at + seq > this.#positions) throw new Error('no positions were reserved');
      for (let layer = 0; layer < this.#layers; layer++) {
        const { key, value } = fresh[layer]!;
        this.#write(this.#keys[layer]!, key, first + row, row, at, seq);
        this.#write(this.#values[layer]!, value, first + row, row, at, seq);
      }
      this.#lengths[first + row] = at + seq;
    }
  }

  #write(to: Float32Array, from: Float32Array, row: number, fromRow: number, at: number, seq: number): void {
    const d = this.#headDim;
    for (let t = 0; t < seq; t++) {
      for (let head = 0; head < this.#heads; head++) {
        const source = ((fromRow * seq + t) * this.#heads + head) * d;
        const target = ((row * this.#heads + head) * this.#positions + at + t) * d;
        for (let i = 0; i < d; i++) to[target + i] = from[source + i]!;
      }
    }
  }
}
