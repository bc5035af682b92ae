import type { Random } from './random.ts';

/**
 * Caption templates: one notation that both writes captions and reads them back, so that the generator
 * and the parser cannot drift apart.
 *
 *   plain text      itself
 *   (a|b|c)         one of them, equally likely
 *   [x]             present or absent, equally likely
 *   {name}          a slot; {Name} is the same slot with its first letter in capitals
 *   {a} {A}         "a" or "an", as the next word asks
 */
type Node =
  | { kind: 'text'; text: string }
  | { kind: 'slot'; name: string; capital: boolean }
  | { kind: 'article'; capital: boolean }
  | { kind: 'choice'; options: Node[][] };

export type Piece = Exclude<Node, { kind: 'choice' }>;

export interface Template {
  readonly nodes: Node[];
}

export function parseTemplate(source: string): Template {
  let at = 0;
  const sequence = (until: string): Node[] => {
    const nodes: Node[] = [];
    let text = '';
    const flush = (): void => {
      if (text !== '') nodes.push({ kind: 'text', text });
      text = '';
    };
    while (at < source.length && !until.includes(source[at] as string)) {
      const char = source[at] as string;
      at++;
      if (char === '(') {
        flush();
        const options = [sequence('|)')];
        while (source[at] === '|') {
          at++;
          options.push(sequence('|)'));
        }
        at++;
        nodes.push({ kind: 'choice', options });
      } else if (char === '[') {
        flush();
        const inner = sequence(']');
        at++;
        nodes.push({ kind: 'choice', options: [inner, []] });
      } else if (char === '{') {
        flush();
        const end = source.indexOf('}', at);
        if (end < 0) throw new SyntaxError(`unclosed slot in template: ${source}`);
        const name = source.slice(at, end);
        at = end + 1;
        const lower = name.toLowerCase();
        nodes.push(
          lower === 'a'
            ? { kind: 'article', capital: name === 'A' }
            : { kind: 'slot', name: lower, capital: name !== lower },
        );
      } else {
        text += char;
      }
    }
    flush();
    return nodes;
  };
  const nodes = sequence('');
  return { nodes };
}

/** Makes the template's choices; what is left is text, articles and slots in order. */
export function chooseBranches(random: Random, template: Template): Piece[] {
  const pieces: Piece[] = [];
  const walk = (nodes: readonly Node[]): void => {
    for (const node of nodes) {
      if (node.kind === 'choice') walk(random.pick(node.options));
      else pieces.push(node);
    }
  };
  walk(template.nodes);
  return pieces;
}

export function capitalise(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Fills the slots and sets articles by the letter that follows them. */
export function renderPieces(pieces: readonly Piece[], fill: (slot: string) => string): string {
  let text = '';
  for (let i = pieces.length - 1; i >= 0; i--) {
    const piece = pieces[i] as Piece;
    if (piece.kind === 'text') text = piece.text + text;
    else if (piece.kind === 'slot') text = (piece.capital ? capitalise(fill(piece.name)) : fill(piece.name)) + text;
    else {
      const article = /^\s*[aeiou]/i.test(text) ? 'an' : 'a';
      text = (piece.capital ? capitalise(article) : article) + text;
    }
  }
  return text;
}

const escapeRegExp = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** A pattern that matches exactly what the template can write, with one named group per slot. */
export function templatePattern(template: Template, slotValues: (slot: string) => readonly string[]): RegExp {
  const build = (nodes: readonly Node[]): string =>
    nodes
      .map((node) => {
        if (node.kind === 'text') return escapeRegExp(node.text);
        if (node.kind === 'article') return node.capital ? 'An?' : 'an?';
        if (node.kind === 'choice') return `(?:${node.options.map(build).join('|')})`;
        const values = slotValues(node.name).map((value) => escapeRegExp(node.capital ? capitalise(value) : value));
        return `(?<${node.name}>${values.join('|')})`;
      })
      .join('');
  return new RegExp(`^${build(template.nodes)}$`);
}
