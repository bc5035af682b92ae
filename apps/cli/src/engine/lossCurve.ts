/** A curve drawn with braille characters: each holds 2 x 4 dots. */

export interface CurvePoint {
  /** In units of the x axis, such as steps. */
  readonly x: number;
  readonly y: number;
}

export interface CurveOptions {
  /** Right end of the x axis. */
  readonly xMax: number;
  /** In characters, the axis' labels included. */
  readonly width: number;
  readonly height: number;
  /** Marked with `o`: validation losses. */
  readonly marks?: readonly CurvePoint[];
}

const DOTS_ACROSS = 2;
const DOTS_DOWN = 4;
const BRAILLE = 0x2800;
/** Bit of the dot in column x, row y of a braille character. */
const BITS = [
  [0x01, 0x02, 0x04, 0x40],
  [0x08, 0x10, 0x20, 0x80],
] as const;
const LABEL_WIDTH = 8;

/** Lines of text, `height` of them and one for the x axis; the curve may end before the right edge. */
export function drawCurve(points: readonly CurvePoint[], options: CurveOptions): string[] {
  const { xMax, height, marks = [] } = options;
  const columns = Math.max(4, options.width - LABEL_WIDTH - 2);
  const across = columns * DOTS_ACROSS;
  const down = height * DOTS_DOWN;
  const values = [...points, ...marks].map((p) => p.y).filter(Number.isFinite);
  const low = Math.min(...values);
  const high = Math.max(...values);
  const range = high - low || 1;
  const toColumn = (x: number): number => Math.min(across - 1, Math.max(0, Math.floor((x / xMax) * across)));
  const toRow = (y: number): number => Math.min(down - 1, Math.max(0, Math.round(((high - y) / range) * (down - 1))));
  const cells = Array.from({ length: height }, () => new Uint8Array(columns));
  const set = (x: number, y: number): void => {
    const cell = cells[Math.floor(y / DOTS_DOWN)]!;
    cell[Math.floor(x / DOTS_ACROSS)]! |= BITS[x % DOTS_ACROSS === 0 ? 0 : 1][y % DOTS_DOWN]!;
  };
  const means = joined(columnMeans(points, toColumn, across));
  let before: number | undefined;
  means.forEach((y, x) => {
    if (y === undefined) return;
    const row = toRow(y);
    // Down or up to the last column's dot, so that a steep curve is a line and not a cloud.
    const from = before ?? row;
    for (let r = Math.min(row, from); r <= Math.max(row, from); r++) set(x, r);
    before = row;
  });
  const lines = cells.map((cell, row) => {
    const label = row === 0 ? high.toFixed(3) : row === height - 1 ? low.toFixed(3) : '';
    const text = Array.from(cell, (bits) => (bits === 0 ? ' ' : String.fromCodePoint(BRAILLE + bits)));
    for (const mark of marks) {
      if (Math.floor(toRow(mark.y) / DOTS_DOWN) === row) text[Math.floor(toColumn(mark.x) / DOTS_ACROSS)] = 'o';
    }
    return `${label.padStart(LABEL_WIDTH)} ┤${text.join('').trimEnd()}`;
  });
  const end = String(xMax);
  return [...lines, `${' '.repeat(LABEL_WIDTH)} └${'─'.repeat(Math.max(0, columns - end.length - 1))} ${end}`];
}

/** Straight lines over columns without a point, where there are points on both sides. */
function joined(means: readonly (number | undefined)[]): (number | undefined)[] {
  const line = [...means];
  let last = -1;
  means.forEach((y, x) => {
    if (y === undefined) return;
    const from = means[last];
    if (from !== undefined) for (let i = last + 1; i < x; i++) line[i] = from + ((y - from) * (i - last)) / (x - last);
    last = x;
  });
  return line;
}

/** Mean of the points that fall into each column. */
function columnMeans(
  points: readonly CurvePoint[],
  toColumn: (x: number) => number,
  across: number,
): (number | undefined)[] {
  const sums = new Float64Array(across);
  const counts = new Uint32Array(across);
  for (const { x, y } of points) {
    if (!Number.isFinite(y)) continue;
    sums[toColumn(x)]! += y;
    counts[toColumn(x)]!++;
  }
  return Array.from(sums, (sum, i) => (counts[i] === 0 ? undefined : sum / counts[i]!));
}
