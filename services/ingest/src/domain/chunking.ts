import type { Block } from '../extract/blocks.ts';

export interface ChunkOptions {
  /** Most tokens of one chunk. Only a table's single row may be more: a row is never cut. */
  readonly maxTokens: number;
  /** Tokens of prose that the next chunk of a section repeats. */
  readonly overlapTokens: number;
  readonly countTokens: (text: string) => number;
}

export interface Chunk {
  /** Headings above the text, outermost first. */
  readonly headingPath: readonly string[];
  readonly text: string;
  /** Characters at the beginning that repeat the end of the chunk before. */
  readonly overlapChars: number;
  readonly tokens: number;
  readonly pageFrom: number | null;
  readonly pageTo: number | null;
}

/** Sections shorter than this share of a chunk are put together with the next. */
const SMALL_SECTION = 0.25;
/** A longer row is no row of a table but a text laid out as one. */
const MAX_ROW_CHARS = 20_000;
const sentences = new Intl.Segmenter(undefined, { granularity: 'sentence' });

/** What is never parted: a sentence, an item, a line of code, a row. */
interface Unit {
  readonly kind: 'heading' | 'prose' | 'whole';
  readonly text: string;
  /** Between it and what stands before it in the same chunk. */
  readonly separator: string;
  /** Header lines that a row needs above it, unless a row of the same table stands there. */
  readonly header?: string;
  readonly table?: object;
  readonly path: readonly string[];
  readonly page: number | null;
  readonly tokens: number;
  readonly repeated?: boolean;
}

/** Splits a document along its headings, paragraphs, items and rows. The same input gives the same chunks. */
export function chunkBlocks(blocks: readonly Block[], options: ChunkOptions): Chunk[] {
  const chunker = new Chunker(options);
  for (const block of blocks) chunker.add(block);
  return chunker.end();
}

/**
 *   units gather in `#open` -> full, or a new section after enough text -> a chunk; the end of it may be repeated
 */
class Chunker {
  readonly #options: ChunkOptions;
  readonly #chunks: Chunk[] = [];
  readonly #headings: { level: number; text: string }[] = [];
  #open: Unit[] = [];
  #tokens = 0;

  constructor(options: ChunkOptions) {
    this.#options = options;
  }

  add(block: Block): void {
    if (block.kind === 'heading') this.#heading(block.level, block.text, block.page ?? null);
    else for (const unit of this.#unitsOf(block)) this.#push(unit);
  }

  end(): Chunk[] {
    while (this.#open.some(isContent)) this.#close(false);
    return this.#chunks;
  }

  #heading(level: number, text: string, page: number | null): void {
    const written = this.#open.filter(isContent).reduce((sum, unit) => sum + unit.tokens, 0);
    const enough = written >= SMALL_SECTION * this.#options.maxTokens;
    if (enough) this.#close(false);
    while ((this.#headings.at(-1)?.level ?? 0) >= level) this.#headings.pop();
    this.#headings.push({ level, text });
    const shown = `${'#'.repeat(Math.min(level, 6))} ${text}`;
    this.#push(this.#unit('heading', shown, '\n\n', page));
  }

  #push(unit: Unit): void {
    const header = unit.header !== undefined && !this.#open.some((other) => other.table === unit.table);
    const tokens = unit.tokens + (header ? this.#options.countTokens(`${unit.header}\n`) : 0);
    const full = this.#tokens + tokens > this.#options.maxTokens;
    if (full && this.#open.some(isContent)) this.#close(true);
    this.#open.push(unit);
    this.#tokens += tokens;
  }

  /** Makes a chunk of what is open. What does not fit by the exact count, and headings without text, go on to the next. */
  #close(within: boolean): void {
    const last = this.#open.findLastIndex(isContent);
    let units = this.#open.slice(0, last + 1);
    let carried = this.#open.slice(last + 1);
    let chunk = this.#render(units);
    while (chunk.tokens > this.#options.maxTokens) {
      if (units.some((unit) => unit.repeated)) units = units.filter((unit) => !unit.repeated);
      else if (units.filter(isContent).length > 1) {
        carried = [units.at(-1)!, ...carried];
        units = units.slice(0, -1);
      } else if (units.some((unit) => unit.kind === 'heading')) {
        // Of sections without text: what the content itself stands under is in its path.
        units = units.filter((unit) => unit.kind !== 'heading');
      } else break;
      chunk = this.#render(units);
    }
    this.#chunks.push(chunk);
    const newSection = !within || carried.some((unit) => unit.kind === 'heading');
    this.#open = [];
    this.#tokens = 0;
    for (const unit of newSection ? carried : [...this.#tail(units), ...carried]) this.#push(unit);
  }

  /** The last sentences, as many as the overlap allows. */
  #tail(units: readonly Unit[]): Unit[] {
    const tail: Unit[] = [];
    let left = this.#options.overlapTokens;
    for (const unit of units.toReversed()) {
      left -= unit.tokens;
      if (unit.kind !== 'prose' || left < 0) break;
      tail.unshift({ ...unit, repeated: true });
    }
    return tail;
  }

  #render(units: readonly Unit[]): Chunk {
    const content = units.filter((unit) => unit.kind !== 'heading');
    const headingPath = commonPath(content.map((unit) => unit.path));
    // A heading that stands above the whole chunk is its path, not its text.
    const shown = units.filter((unit) => unit.kind !== 'heading' || unit.path.length > headingPath.length);
    let text = '';
    let overlapChars = 0;
    const tables = new Set<object>();
    for (const unit of shown) {
      const header =
        unit.table !== undefined && unit.header !== undefined && !tables.has(unit.table) ? `${unit.header}\n` : '';
      if (unit.table) tables.add(unit.table);
      text += `${text === '' ? '' : unit.separator}${header}${unit.text}`;
      if (unit.repeated) overlapChars = text.length;
    }
    const pages = content.flatMap((unit) => unit.page ?? []);
    return {
      headingPath,
      text,
      overlapChars,
      tokens: this.#options.countTokens(text),
      pageFrom: pages.length === 0 ? null : Math.min(...pages),
      pageTo: pages.length === 0 ? null : Math.max(...pages),
    };
  }

  #unitsOf(block: Exclude<Block, { kind: 'heading' }>): Unit[] {
    const page = block.page ?? null;
    if (block.kind === 'table') return this.#rows(block.rows, block.header, page);
    if (block.kind === 'paragraph') return this.#prose(block.text, page);
    const lines = block.kind === 'list' ? block.items : block.text.split('\n');
    return lines.flatMap((line, i) => this.#whole(line, i === 0 ? '\n\n' : '\n', page));
  }

  #prose(text: string, page: number | null): Unit[] {
    const parts = [...sentences.segment(text)].map(({ segment }) => segment.trim()).filter((part) => part !== '');
    return parts.flatMap((part, i) =>
      this.#fitting(part).map((piece, j) => this.#unit('prose', piece, i + j === 0 ? '\n\n' : ' ', page)),
    );
  }

  #whole(line: string, separator: string, page: number | null): Unit[] {
    return this.#fitting(line).map((piece, i) => this.#unit('whole', piece, i === 0 ? separator : ' ', page));
  }

  #rows(rows: readonly (readonly string[])[], hasHeader: boolean, page: number | null): Unit[] {
    const [first = []] = rows;
    const rule = rowText(first.map(() => '---'));
    const header = `${rowText(hasHeader ? first : first.map(() => ''))}\n${rule}`;
    const table = {};
    return (hasHeader ? rows.slice(1) : rows).flatMap((row, i) => {
      const text = rowText(row);
      if (text.length > MAX_ROW_CHARS) return this.#prose(row.join(' '), page);
      return [{ ...this.#unit('whole', text, i === 0 ? '\n\n' : '\n', page), header, table }];
    });
  }

  #unit(kind: Unit['kind'], text: string, separator: string, page: number | null): Unit {
    const path = this.#headings.map((heading) => heading.text);
    return { kind, text, separator, path, page, tokens: this.#options.countTokens(separator + text) };
  }

  /** The text in pieces of at most a chunk: by words, and where a word is longer, by characters. */
  #fitting(text: string): string[] {
    const { maxTokens, countTokens } = this.#options;
    if (countTokens(`\n\n${text}`) <= maxTokens) return [text];
    const characters = Array.from(text);
    const middle = characters.length >> 1;
    const space = nearestSpace(characters, middle);
    const at = space ?? middle;
    if (at <= 0 || at >= characters.length) return [text];
    return [characters.slice(0, at).join(''), characters.slice(at).join('')]
      .map((part) => part.trim())
      .filter((part) => part !== '')
      .flatMap((part) => this.#fitting(part));
  }
}

/** Text that no other chunk holds. */
function isContent(unit: Unit): boolean {
  return unit.kind !== 'heading' && !unit.repeated;
}

function commonPath(paths: readonly (readonly string[])[]): string[] {
  const [first = [], ...others] = paths;
  let length = first.length;
  for (const path of others) {
    let same = 0;
    while (same < Math.min(length, path.length) && path[same] === first[same]) same++;
    length = same;
  }
  return first.slice(0, length);
}

function rowText(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}

/** The space nearest to the middle, within the inner half. */
function nearestSpace(characters: readonly string[], middle: number): number | undefined {
  for (let distance = 0; distance < middle / 2; distance++) {
    if (/\s/.test(characters[middle - distance] ?? '')) return middle - distance;
    if (/\s/.test(characters[middle + distance] ?? '')) return middle + distance;
  }
  return undefined;
}
