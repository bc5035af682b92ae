import { type Block, looksLikeHeader, oneLine } from './blocks.ts';
import { type Line, linesOf, quantile, readingOrder, type Segment, segmentsOf, type TextPiece } from './pdfRegions.ts';

export type { TextPiece } from './pdfRegions.ts';

export interface PdfPage {
  readonly number: number;
  readonly width: number;
  readonly height: number;
  readonly pieces: readonly TextPiece[];
}

/** Shares of the page's height in which running headers and footers stand. */
const MARGIN = 0.1;
const MIN_REPEATS = 2;
const HEADING_SIZE = 1.1;
const MAX_HEADING_CHARS = 140;
const MAX_BOLD_HEADING_CHARS = 80;
/** In multiples of the usual distance of lines. */
const PARAGRAPH_GAP = 1.35;
/** The lower third of the distances: where paragraphs are short, most distances are those between paragraphs. */
const PITCH_SHARE = 0.3;
const INDENT = 0.8;
const MAX_LEVELS = 6;
const BULLET = /^(?:[•‣▪◦●–*-]|\d{1,3}[.)])\s+/;
const SOFT_HYPHEN = '\u00AD';

/** Blocks of a whole document in reading order. */
export function pdfBlocks(pages: readonly PdfPage[]): Block[] {
  const repeated = runningLines(pages);
  const regions = pages.flatMap((page) => {
    const segments = segmentsOf(page.pieces).filter((segment) => !repeated(page, segment));
    return readingOrder(segments).map((region) => ({ page: page.number, lines: linesOf(region) }));
  });
  const style = styleOf(regions.flatMap(({ lines }) => lines));
  const blocks: Block[] = [];
  for (const { page, lines } of regions) {
    for (const block of regionBlocks(lines, page, style)) append(blocks, block, style.words);
  }
  return blocks;
}

/** Lines in the margins that come again on other pages, whatever their numbers; and lone page numbers. */
function runningLines(pages: readonly PdfPage[]): (page: PdfPage, segment: Segment) => boolean {
  const inMargin = (page: PdfPage, segment: Segment): boolean =>
    segment.y < MARGIN * page.height || segment.y > (1 - MARGIN) * page.height;
  const keyOf = (text: string): string => oneLine(text).toLowerCase().replace(/\d+/g, '#');
  const counts = new Map<string, Set<number>>();
  for (const page of pages) {
    for (const segment of segmentsOf(page.pieces)) {
      if (!inMargin(page, segment)) continue;
      const key = keyOf(segment.text);
      counts.set(key, (counts.get(key) ?? new Set()).add(page.number));
    }
  }
  const enough = Math.max(MIN_REPEATS, Math.min(4, pages.length / 2));
  return (page, segment) => {
    if (!inMargin(page, segment)) return false;
    const key = keyOf(segment.text);
    const isNumber = /^(?:page |seite |p\. ?)?#(?: ?(?:\/|of|von) ?#)?$|^- ?# ?-$/.test(key);
    return isNumber || (counts.get(key)?.size ?? 0) >= enough;
  };
}

interface Style {
  readonly bodySize: number;
  readonly bodyFont: string;
  /** Sizes of headings, largest first. */
  readonly headingSizes: readonly number[];
  /** Words that stand within a line somewhere, so that they are certainly whole. */
  readonly words: ReadonlySet<string>;
}

function styleOf(lines: readonly Line[]): Style {
  const words = new Set<string>();
  const bySize = new Map<number, number>();
  const byFont = new Map<string, number>();
  const weigh = <K>(map: Map<K, number>, key: K, chars: number): void => void map.set(key, (map.get(key) ?? 0) + chars);
  for (const line of lines) {
    const text = textOf(line);
    const chars = text.length;
    for (const word of text
      .toLowerCase()
      .split(/[^\p{L}]+/u)
      .slice(1, -1))
      words.add(word);
    weigh(bySize, rounded(line.size), chars);
    weigh(byFont, line.font, chars);
  }
  const most = <K>(map: Map<K, number>): K | undefined => [...map].toSorted((a, b) => b[1] - a[1])[0]?.[0];
  const bodySize = most(bySize) ?? 10;
  const headingSizes = [...bySize.keys()].filter((size) => size >= HEADING_SIZE * bodySize).toSorted((a, b) => b - a);
  return { bodySize, bodyFont: most(byFont) ?? '', headingSizes, words };
}

function regionBlocks(lines: readonly Line[], page: number, style: Style): Block[] {
  const pitch =
    quantile(
      lines.slice(1).map((line, i) => line.y - lines[i]!.y),
      PITCH_SHARE,
    ) || style.bodySize;
  const left = Math.min(...lines.map((line) => line.segments[0]!.x));
  const blocks: Block[] = [];
  let open: { text: string; last: Line } | undefined;
  let items: string[] = [];
  const close = (): void => {
    if (open) blocks.push({ kind: 'paragraph', text: oneLine(open.text), page });
    if (items.length > 0) blocks.push({ kind: 'list', items: items.map(oneLine), page });
    open = undefined;
    items = [];
  };
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i]!;
    const rows = tableFrom(lines, i, pitch);
    if (rows) {
      close();
      blocks.push({ kind: 'table', rows: rows.cells, header: looksLikeHeader(rows.cells), page });
      i = rows.end - 1;
      continue;
    }
    const level = headingLevel(line, lines[i + 1], style);
    const text = textOf(line);
    if (level !== undefined) {
      close();
      const before = blocks.at(-1);
      // A heading of two lines is one heading.
      const follows =
        before?.kind === 'heading' && before.level === level && line.y - lines[i - 1]!.y < 1.6 * line.size;
      if (follows) blocks[blocks.length - 1] = { ...before, text: join(before.text, text, style.words) };
      else blocks.push({ kind: 'heading', level, text: oneLine(text), page });
    } else if (BULLET.test(text)) {
      if (open) close();
      items.push(text.replace(/^[•‣▪◦●–*-]\s+/, '- '));
    } else if (items.length > 0 && line.y - lines[i - 1]!.y < PARAGRAPH_GAP * pitch && line.segments[0]!.x > left) {
      items[items.length - 1] = join(items.at(-1)!, text, style.words);
    } else if (open && continues(open.last, line, pitch, left))
      open = { text: join(open.text, text, style.words), last: line };
    else {
      close();
      open = { text, last: line };
    }
  }
  close();
  return blocks;
}

function continues(last: Line, line: Line, pitch: number, left: number): boolean {
  if (line.y - last.y > PARAGRAPH_GAP * pitch || Math.abs(line.size - last.size) > 0.15 * last.size) return false;
  const indented = line.segments[0]!.x - left > INDENT * line.size;
  const wasIndented = last.segments[0]!.x - left > INDENT * last.size;
  return !indented || wasIndented;
}

function headingLevel(line: Line, next: Line | undefined, style: Style): number | undefined {
  const text = oneLine(textOf(line));
  if (line.segments.length > 2 || !/\p{L}/u.test(text)) return undefined;
  const size = rounded(line.size);
  if (size >= HEADING_SIZE * style.bodySize && text.length <= MAX_HEADING_CHARS) {
    return Math.min(MAX_LEVELS, style.headingSizes.indexOf(size) + 1);
  }
  // Bold headings in the size of the text: another font, alone on its line, and the text follows.
  const alone = line.font !== style.bodyFont && next?.font === style.bodyFont && next.y > line.y;
  const short = text.length <= MAX_BOLD_HEADING_CHARS && !/[.,;:!?]$/.test(text) && /^[\p{Lu}\d]/u.test(text);
  return alone && short && size >= style.bodySize ? Math.min(MAX_LEVELS, style.headingSizes.length + 1) : undefined;
}

/** A table that starts at a line: lines of several segments that keep to the same columns. */
function tableFrom(
  lines: readonly Line[],
  start: number,
  pitch: number,
): { cells: string[][]; end: number } | undefined {
  let end = start;
  while (end < lines.length && lines[end]!.segments.length > 1) {
    if (end > start && lines[end]!.y - lines[end - 1]!.y > 3 * pitch) break;
    end++;
  }
  if (end - start < 2) return undefined;
  const rows = lines.slice(start, end);
  const columns = bands(rows.flatMap((line) => line.segments));
  const regular = rows.every((line) => {
    const taken = line.segments.map((segment) => columnOf(columns, segment));
    return new Set(taken).size === taken.length;
  });
  if (columns.length < 2 || !regular) return undefined;
  const cells = rows.map((line) => {
    const row = columns.map(() => '');
    for (const segment of line.segments) row[columnOf(columns, segment)] = oneLine(segment.text);
    return row;
  });
  return { cells, end };
}

/** Stretches of the line that segments of a table share. */
function bands(segments: readonly Segment[]): { from: number; to: number }[] {
  const merged: { from: number; to: number }[] = [];
  for (const { x, width } of segments.toSorted((a, b) => a.x - b.x)) {
    const last = merged.at(-1);
    if (last && x <= last.to) last.to = Math.max(last.to, x + width);
    else merged.push({ from: x, to: x + width });
  }
  return merged;
}

function columnOf(columns: readonly { from: number; to: number }[], segment: Segment): number {
  return columns.findIndex(({ from, to }) => segment.x >= from && segment.x <= to);
}

/** Adds a block; a paragraph that was broken by the end of a column or page is one paragraph. */
function append(blocks: Block[], block: Block, words: ReadonlySet<string>): void {
  const last = blocks.at(-1);
  const broken =
    last?.kind === 'paragraph' &&
    block.kind === 'paragraph' &&
    !/[.!?:"”’)\]]$/.test(last.text) &&
    /^[\p{Ll}\d]/u.test(block.text);
  if (broken) blocks[blocks.length - 1] = { ...last, text: join(last.text, block.text, words) };
  else blocks.push(block);
}

/**
 * The next line of a text. A word that was divided at the end of the line is put together: by its hyphen, or, where the
 * program that read the page left a soft hyphen out, by the whole word that stands elsewhere while its half does not.
 */
function join(text: string, next: string, words: ReadonlySet<string>): string {
  const end = text.trimEnd();
  const rest = next.trimStart();
  if (end.endsWith(SOFT_HYPHEN)) return `${end.slice(0, -1)}${rest}`;
  if (/\p{Ll}[-‐]$/u.test(end) && /^\p{Ll}/u.test(rest)) return `${end.slice(0, -1)}${rest}`;
  const [half] = /\p{L}+$/u.exec(end) ?? [''];
  const [other] = /^\p{Ll}+/u.exec(rest) ?? [''];
  const halves = [half.toLowerCase(), other];
  const divided = half !== '' && other !== '' && words.has(halves.join('')) && !halves.every((part) => words.has(part));
  return `${end}${divided ? '' : ' '}${rest}`;
}

function textOf(line: Line): string {
  return line.segments.map((segment) => segment.text).join(' ');
}

function rounded(size: number): number {
  return Math.round(size * 2) / 2;
}
