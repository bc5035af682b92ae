import type { ChatMessage } from '@tuneloop/contracts/responses/events';

/** A chunk as examples are made from it. */
export interface SourceChunk {
  readonly id: string;
  readonly documentName: string;
  readonly headingPath: readonly string[];
  /** Without what it repeats of the chunk before. */
  readonly text: string;
  /** Whether it is all that its section says: else its text is no answer to what the section says. */
  readonly wholeSection: boolean;
}

export interface DocumentExample {
  readonly messages: ChatMessage[];
  readonly chosen: string;
}

/** Shorter answers teach nothing. */
const MIN_ANSWER_CHARS = 20;
/** A text is continued from a place in its middle third. */
const CUT = { from: 0.3, to: 0.7 };
const MAX_CELL_CHARS = 200;
const sentences = new Intl.Segmenter(undefined, { granularity: 'sentence' });

/**
 * Examples that follow from the text by itself, no model asked: what a section says, how a passage goes on, what stands
 * in a table, which heading fits. In this order, at most `limit`; the same chunk gives the same examples.
 */
export function autoExamples(source: SourceChunk, limit: number, system: string): DocumentExample[] {
  const { documentName, headingPath } = source;
  // A document's title is often its first heading too, and need not be said twice.
  const chunk = { ...source, headingPath: headingPath[0] === documentName ? headingPath.slice(1) : headingPath };
  const about = [sectionQuestion(chunk), continuation(chunk), ...tableQuestions(chunk), headingFor(chunk)];
  return about
    .flatMap((pair) => pair ?? [])
    .slice(0, limit)
    .map(({ ask, answer }) => ({ messages: withSystem(system, [{ role: 'user', content: ask }]), chosen: answer }));
}

export function withSystem(system: string, messages: readonly ChatMessage[]): ChatMessage[] {
  return system === '' ? [...messages] : [{ role: 'system', content: system }, ...messages];
}

/** What the system prompt says where nothing was asked for. */
export function defaultSystemPrompt(documentName: string): string {
  return `You answer from the document “${documentName}”.`;
}

interface Pair {
  readonly ask: string;
  readonly answer: string;
}

function sectionQuestion({ documentName, headingPath, text, wholeSection }: SourceChunk): Pair | undefined {
  if (!wholeSection || headingPath.length === 0 || text.length < MIN_ANSWER_CHARS) return undefined;
  return { ask: `What does the section “${headingPath.join(' > ')}” of “${documentName}” say?`, answer: text };
}

/** The passage is cut between two sentences, as near to its middle as can be. */
function continuation({ documentName, headingPath, text }: SourceChunk): Pair | undefined {
  const prose = text.split('\n').every((line) => !line.startsWith('|'));
  if (!prose) return undefined;
  const ends = [...sentences.segment(text)].map(({ index }) => index).filter((at) => isInMiddle(at / text.length));
  const cut = ends.toSorted((a, b) => Math.abs(a - text.length / 2) - Math.abs(b - text.length / 2))[0];
  if (cut === undefined) return undefined;
  const [beginning, rest] = [text.slice(0, cut).trim(), text.slice(cut).trim()];
  if (Math.min(beginning.length, rest.length) < MIN_ANSWER_CHARS) return undefined;
  const place = headingPath.length === 0 ? '' : `, section “${headingPath.join(' > ')}”`;
  return { ask: `Continue this passage from “${documentName}”${place}:\n\n${beginning}`, answer: rest };
}

function isInMiddle(share: number): boolean {
  return share >= CUT.from && share <= CUT.to;
}

/** One question for each row of a table whose first column names its rows: the other columns, by their headers. */
function tableQuestions({ documentName, headingPath, text }: SourceChunk): Pair[] {
  const lines = text.split('\n').filter((line) => line.startsWith('| '));
  const rule = lines.findIndex((line) => /^\|(?: --- \|)+$/.test(line));
  const header = rule > 0 ? cellsOf(lines[rule - 1]!) : [];
  if (header.length < 2 || header.some((cell) => cell === '')) return [];
  const rows = lines.slice(rule + 1).map(cellsOf);
  const names = rows.map(([name = '']) => name);
  if (new Set(names).size !== names.length) return [];
  const place =
    headingPath.at(-1) === undefined ? `“${documentName}”` : `“${headingPath.join(' > ')}” of “${documentName}”`;
  return rows.flatMap(([name = '', ...values]) => {
    if (name === '' || values.some((value) => value === '' || value.length > MAX_CELL_CHARS)) return [];
    const answer = values.map((value, i) => `${header[i + 1]}: ${value}`).join('; ');
    return [
      {
        ask: `By the table in ${place}, what holds for ${header[0]} ${name}?`,
        answer: `${header[0]} ${name}: ${answer}.`,
      },
    ];
  });
}

function cellsOf(line: string): string[] {
  return line
    .slice(2, -2)
    .split(/(?<!\\) \| /)
    .map((cell) => cell.replaceAll('\\|', '|').trim());
}

function headingFor({ headingPath, text }: SourceChunk): Pair | undefined {
  const heading = headingPath.at(-1);
  if (heading === undefined || text.length < 4 * MIN_ANSWER_CHARS) return undefined;
  return { ask: `Give this passage a heading:\n\n${text}`, answer: heading };
}
