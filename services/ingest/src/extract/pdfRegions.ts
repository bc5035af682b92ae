/** A piece of text as it lies on a page, in points from the upper left corner; `y` is the line it stands on. */
export interface TextPiece {
  readonly text: string;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly size: number;
  readonly font: string;
}

/** Words that follow each other on one line without a gap wider than a wide space. */
export type Segment = TextPiece;

export interface Line {
  readonly y: number;
  readonly size: number;
  readonly font: string;
  /** From left to right; more than one where there are gaps, as between the cells of a table. */
  readonly segments: readonly Segment[];
}

/** In multiples of the size of the text: spaces of justified lines stay below, gaps between cells above. */
const SEGMENT_GAP = 0.9;
const SAME_LINE = 0.35;
const GUTTER = 0.9;
/** A gap between lines that may part a headline, a header or a footer from columns. */
const BAND_GAP = 0.6;
const MIN_COLUMN_LINES = 3;
/** Shorter pieces on the same lines left and right are the cells of a table, not columns of text. */
const COLUMN_CHARS = 18;
const ALIGNED = 0.5;
/** Rows of a table stand on the very same lines; those of two columns only by chance. */
const SAME_BASELINE = 0.1;
const MAX_DEPTH = 24;

/** Joins pieces into segments. */
export function segmentsOf(pieces: readonly TextPiece[]): Segment[] {
  const segments: Segment[] = [];
  for (const row of rowsOf(pieces)) {
    let current: Segment | undefined;
    for (const piece of row.toSorted((a, b) => a.x - b.x)) {
      const gap = current === undefined ? Infinity : piece.x - (current.x + current.width);
      const size = Math.max(piece.size, current?.size ?? 0);
      if (current === undefined || gap > SEGMENT_GAP * size) {
        if (current) segments.push(current);
        current = { ...piece };
        continue;
      }
      const spaced = gap > 0.12 * size && !/\s$/.test(current.text) && !/^\s/.test(piece.text);
      current = {
        ...current,
        text: `${current.text}${spaced ? ' ' : ''}${piece.text}`,
        width: Math.max(current.width, piece.x + piece.width - current.x),
        size,
        font: current.text.length >= piece.text.length ? current.font : piece.font,
      };
    }
    if (current) segments.push(current);
  }
  return segments;
}

function rowsOf<T extends TextPiece>(pieces: readonly T[]): T[][] {
  const rows: T[][] = [];
  let last: T | undefined;
  for (const piece of pieces.toSorted((a, b) => a.y - b.y || a.x - b.x)) {
    if (last !== undefined && piece.y - last.y <= SAME_LINE * Math.min(piece.size, last.size)) rows.at(-1)!.push(piece);
    else {
      rows.push([piece]);
      last = piece;
    }
  }
  return rows;
}

/**
 * The regions of a page in reading order, by recursive cuts along white space (Nagy and Seth 1984, the X-Y cut): columns
 * are parted first, and where a headline or a footer stands in the way of the gap between them, that is cut off first.
 */
export function readingOrder(segments: readonly Segment[], depth = 0): Segment[][] {
  if (segments.length < 2 * MIN_COLUMN_LINES || depth > MAX_DEPTH) return [[...segments]];
  const columns = columnCut(segments);
  if (columns) return columns.flatMap((part) => readingOrder(part, depth + 1));
  const bands = bandCut(segments);
  if (!bands) return [[...segments]];
  const parts = bands.map((part) => readingOrder(part, depth + 1));
  // A cut that found no columns on either side has parted what belongs together.
  return parts.some((part) => part.length > 1) ? parts.flat() : [[...segments]];
}

/** Lines of a region, from top to bottom. */
export function linesOf(segments: readonly Segment[]): Line[] {
  return rowsOf(segments).map((row) => {
    const longest = row.reduce((a, b) => (b.text.length > a.text.length ? b : a));
    return { y: row[0]!.y, size: longest.size, font: longest.font, segments: row.toSorted((a, b) => a.x - b.x) };
  });
}

function columnCut(segments: readonly Segment[]): [Segment[], Segment[]] | undefined {
  const size = median(segments.map((segment) => segment.size));
  for (const gap of gapsOf(segments.map(({ x, width }) => [x, x + width])).toSorted((a, b) => b.width - a.width)) {
    if (gap.width < GUTTER * size) return undefined;
    const left = segments.filter((segment) => segment.x < gap.at);
    const right = segments.filter((segment) => segment.x >= gap.at);
    if (areColumns(left, right)) return [left, right];
  }
  return undefined;
}

function areColumns(left: readonly Segment[], right: readonly Segment[]): boolean {
  const rows = [rowsOf(left), rowsOf(right)] as const;
  if (Math.min(rows[0].length, rows[1].length) < MIN_COLUMN_LINES) return false;
  const chars = (side: readonly Segment[][]): number =>
    median(side.map((row) => row.reduce((sum, segment) => sum + segment.text.length, 0)));
  if (Math.min(chars(rows[0]), chars(rows[1])) >= COLUMN_CHARS) return true;
  const [few, many] = rows[0].length <= rows[1].length ? rows : [rows[1], rows[0]];
  const aligned = few.filter((row) =>
    many.some((other) => Math.abs(other[0]!.y - row[0]!.y) < SAME_BASELINE * row[0]!.size),
  );
  return aligned.length / few.length < ALIGNED;
}

function bandCut(segments: readonly Segment[]): [Segment[], Segment[]] | undefined {
  const size = median(segments.map((segment) => segment.size));
  const gaps = gapsOf(segments.map((segment) => [segment.y - segment.size, segment.y]));
  const widest = gaps.reduce<Gap | undefined>((a, b) => (a === undefined || b.width > a.width ? b : a), undefined);
  if (widest === undefined || widest.width < BAND_GAP * size) return undefined;
  return [segments.filter((segment) => segment.y <= widest.at), segments.filter((segment) => segment.y > widest.at)];
}

interface Gap {
  /** Where it ends. */
  readonly at: number;
  readonly width: number;
}

/** The empty stretches between intervals. */
function gapsOf(intervals: readonly (readonly [number, number])[]): Gap[] {
  const gaps: Gap[] = [];
  let end = -Infinity;
  for (const [from, to] of intervals.toSorted((a, b) => a[0] - b[0])) {
    if (end !== -Infinity && from > end) gaps.push({ at: from, width: from - end });
    end = Math.max(end, to);
  }
  return gaps;
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** 0 for no values. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(share * sorted.length)] ?? 0;
}
