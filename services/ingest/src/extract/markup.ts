import { marked } from 'marked';
import { type DefaultTreeAdapterTypes, parse } from 'parse5';
import { type Block, type Extraction, looksLikeHeader, oneLine } from './blocks.ts';

type Node = DefaultTreeAdapterTypes.ChildNode;
type Element = DefaultTreeAdapterTypes.Element;

/** What is no part of a page's text, wherever it stands. */
const SKIPPED = wordSet(
  'script style noscript template svg math iframe object canvas head form button select nav aside footer dialog audio video',
);
const HEADING = /^h([1-6])$/;
const INLINE = wordSet(
  'a abbr b bdi bdo br cite code data del dfn em font i img ins kbd label mark q ruby rt rp s samp small span strong sub ' +
    'sup time tt u var wbr input picture source',
);
const HIDDEN_STYLE = /display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d])|opacity\s*:\s*0(?![.\d])/i;
const HIDDEN_ROLES = new Set(['navigation', 'banner', 'contentinfo', 'complementary', 'search', 'dialog']);
const MAX_SPAN = 100;
const MAX_CELLS = 100_000;

/** The text of an HTML page: its main part, without navigation, scripts and what is hidden from a reader. */
export function extractHtml(html: string): Extraction {
  const document = parse(html);
  const title = find(document, (element) => element.tagName === 'title');
  const root =
    find(document, (element) => element.tagName === 'main' || attribute(element, 'role') === 'main') ??
    onlyArticle(document) ??
    find(document, (element) => element.tagName === 'body');
  const walker = new Walker();
  if (root) walker.children(root.childNodes);
  const blocks = walker.end();
  const named = title ? oneLine(textOf(title.childNodes)) : '';
  return { title: named === '' ? null : named, pages: null, blocks };
}

/** Markdown of GitHub's kind, by way of the HTML that it stands for. A YAML header gives the title. */
export function extractMarkdown(markdown: string): Extraction {
  const [, header = ''] = /^\uFEFF?---\r?\n([\s\S]*?)\r?\n(?:---|\.\.\.)\r?\n/.exec(markdown) ?? [];
  const body =
    header === ''
      ? markdown
      : markdown.slice(markdown.indexOf(header) + header.length).replace(/^\s*(?:---|\.\.\.)/, '');
  const html = marked.parse(body, { async: false, gfm: true });
  const { blocks } = extractHtml(`<main>${html}</main>`);
  const [, title] = /^title:\s*(.+)$/m.exec(header) ?? [];
  const first = blocks.find((block) => block.kind === 'heading');
  const named = title?.trim().replace(/^(["'])(.*)\1$/, '$2') ?? (first?.level === 1 ? first.text : null);
  return { title: named === '' ? null : named, pages: null, blocks };
}

/** Plain text: paragraphs between empty lines; lines that are underlined or all in capitals are left as they are. */
export function extractText(text: string): Extraction {
  const paragraphs = text
    .replace(/^\uFEFF/, '')
    .replaceAll('\f', '\n\n')
    .split(/\r?\n[\t ]*(?:\r?\n[\t ]*)+/)
    .map((part) => part.trimEnd().replace(/^(?:[\t ]*\r?\n)+/, ''))
    .filter((part) => part.trim() !== '');
  return {
    title: null,
    pages: null,
    blocks: paragraphs.map((part): Block => {
      const lines = part.split(/\r?\n/);
      const items = lines.filter((line) => /^\s*(?:[-*•]|\d{1,3}[.)])\s+\S/.test(line));
      if (items.length === lines.length && lines.length > 1)
        return { kind: 'list', items: lines.map((line) => line.trimEnd()) };
      return { kind: 'paragraph', text: oneLine(part) };
    }),
  };
}

/**
 * Walks a tree and gathers blocks:
 *
 *   inline content gathers in `#text` -> a block element begins or ends -> one paragraph
 */
class Walker {
  readonly #blocks: Block[] = [];
  #text = '';

  children(nodes: readonly Node[]): void {
    for (const node of nodes) this.#node(node);
  }

  end(): Block[] {
    this.#flush();
    return this.#blocks;
  }

  #node(node: Node): void {
    if ('value' in node) this.#text += node.value;
    if (!('tagName' in node) || isHidden(node)) return;
    const { tagName } = node;
    if (tagName === 'br') this.#text += '\n';
    else if (INLINE.has(tagName)) this.children(node.childNodes);
    else this.#block(node);
  }

  #block(node: Element): void {
    this.#flush();
    const heading = HEADING.exec(node.tagName);
    if (heading) this.#add({ kind: 'heading', level: Number(heading[1]), text: oneLine(textOf(node.childNodes)) });
    else if (node.tagName === 'pre')
      this.#add({ kind: 'code', text: textOf(node.childNodes).replace(/^\n|\s+$/g, '') });
    else if (node.tagName === 'ul' || node.tagName === 'ol') this.#list(node);
    else if (node.tagName === 'table') this.#table(node);
    else this.children(node.childNodes);
    this.#flush();
  }

  #flush(): void {
    const text = oneLine(this.#text);
    this.#text = '';
    if (text !== '') this.#blocks.push({ kind: 'paragraph', text });
  }

  #add(block: Exclude<Block, { kind: 'list' | 'table' }>): void {
    if (block.text !== '') this.#blocks.push(block);
  }

  #list(node: Element): void {
    const items = listItems(node, '');
    if (items.length > 0) this.#blocks.push({ kind: 'list', items });
  }

  /** A table that lays out a page (one column, or with blocks inside its cells) is read as the page it lays out. */
  #table(node: Element): void {
    const caption = childrenOf(node, ['caption'])[0];
    if (caption) this.children(caption.childNodes);
    this.#flush();
    const rows = tableRows(node);
    const layout = find(node, (inner) => inner !== node && (inner.tagName === 'table' || HEADING.test(inner.tagName)));
    const grid = layout ? [] : gridOf(rows);
    if ((grid[0]?.length ?? 0) < 2) {
      for (const row of rows) for (const cell of cellsOf(row)) this.#block(cell);
      return;
    }
    const inHead =
      rows[0]!.parentNode !== null && 'tagName' in rows[0]!.parentNode && rows[0]!.parentNode.tagName === 'thead';
    const header = inHead || cellsOf(rows[0]!).every((cell) => cell.tagName === 'th') || looksLikeHeader(grid);
    const shown = grid.filter((row) => row.some((cell) => cell !== ''));
    if (shown.length > 0) this.#blocks.push({ kind: 'table', rows: shown, header: header && shown.length > 1 });
  }
}

function wordSet(words: string): ReadonlySet<string> {
  return new Set(words.split(' '));
}

function listItems(list: Element, indent: string): string[] {
  const items: string[] = [];
  let number = Number(attribute(list, 'start') ?? 1);
  for (const item of childrenOf(list, ['li'])) {
    const mark = list.tagName === 'ol' ? `${number++}. ` : '- ';
    const nested = item.childNodes.filter(
      (node) => 'tagName' in node && (node.tagName === 'ul' || node.tagName === 'ol'),
    );
    const own = oneLine(textOf(item.childNodes.filter((node) => !nested.includes(node))));
    if (own !== '') items.push(`${indent}${mark}${own}`);
    for (const inner of nested) items.push(...listItems(inner as Element, `${indent}  `));
  }
  return items;
}

function tableRows(table: Element): Element[] {
  return childrenOf(table, ['tr', 'thead', 'tbody', 'tfoot']).flatMap((part) =>
    part.tagName === 'tr' ? [part] : childrenOf(part, ['tr']),
  );
}

function cellsOf(row: Element): Element[] {
  return childrenOf(row, ['td', 'th']);
}

/** Cells in their columns: one that spans columns leaves the others empty, one that spans rows is repeated in each. */
function gridOf(rows: readonly Element[]): string[][] {
  const grid: string[][] = rows.map(() => []);
  let cells = 0;
  rows.forEach((row, r) => {
    let c = 0;
    for (const cell of cellsOf(row)) {
      while (grid[r]![c] !== undefined) c++;
      const text = oneLine(textOf(cell.childNodes));
      const width = spanOf(cell, 'colspan');
      const height = Math.min(spanOf(cell, 'rowspan'), rows.length - r);
      for (let down = 0; down < height; down++) {
        for (let across = 0; across < width; across++) grid[r + down]![c + across] = across === 0 ? text : '';
      }
      c += width;
      cells += width * height;
      if (cells > MAX_CELLS) return;
    }
  });
  const width = Math.max(0, ...grid.map((row) => row.length));
  return grid.map((row) => Array.from({ length: width }, (_, i) => row[i] ?? ''));
}

function spanOf(cell: Element, name: string): number {
  const span = Number(attribute(cell, name) ?? 1);
  return Number.isInteger(span) && span > 0 ? Math.min(span, MAX_SPAN) : 1;
}

function textOf(nodes: readonly Node[]): string {
  let text = '';
  for (const node of nodes) {
    if ('value' in node) text += node.value;
    if (!('tagName' in node) || isHidden(node)) continue;
    const inner = node.tagName === 'br' ? '\n' : textOf(node.childNodes);
    text += INLINE.has(node.tagName) ? inner : ` ${inner} `;
  }
  return text;
}

function isHidden(element: Element): boolean {
  if (SKIPPED.has(element.tagName) || attribute(element, 'hidden') !== undefined) return true;
  if (attribute(element, 'aria-hidden') === 'true' || HIDDEN_ROLES.has(attribute(element, 'role') ?? '')) return true;
  return HIDDEN_STYLE.test(attribute(element, 'style') ?? '');
}

function attribute(element: Element, name: string): string | undefined {
  return element.attrs.find((item) => item.name === name)?.value;
}

function childrenOf(element: Element, names: readonly string[]): Element[] {
  return element.childNodes.filter((node): node is Element => 'tagName' in node && names.includes(node.tagName));
}

function find(
  root: { readonly childNodes: readonly Node[] },
  wanted: (element: Element) => boolean,
): Element | undefined {
  for (const node of root.childNodes) {
    if (!('tagName' in node)) continue;
    const found = wanted(node) ? node : find(node, wanted);
    if (found) return found;
  }
  return undefined;
}

function onlyArticle(root: DefaultTreeAdapterTypes.Document): Element | undefined {
  let count = 0;
  let last: Element | undefined;
  find(root, (element) => {
    if (element.tagName === 'article') {
      count++;
      last = element;
    }
    return false;
  });
  return count === 1 ? last : undefined;
}
