import type { Readable } from 'node:stream';

/** One JSONL line may be this long. */
export const MAX_LINE_BYTES = 4 * 1024 * 1024;

export type JsonLine =
  | { readonly line: number; readonly value: unknown }
  | { readonly line: number; readonly problem: string };

const NEWLINE = 0x0a;
const BOM = '\uFEFF';

/**
 * The lines of a JSONL stream, each parsed or with what is wrong with it. Blank lines are passed over but counted. At
 * most one line is held at a time; a longer one than `MAX_LINE_BYTES` ends the reading.
 */
export async function* readJsonLines(source: Readable): AsyncGenerator<JsonLine> {
  let line = 0;
  let pieces: Buffer[] = [];
  let held = 0;
  for await (const chunk of source) {
    let rest = chunk as Buffer;
    for (let end = rest.indexOf(NEWLINE); end >= 0; end = rest.indexOf(NEWLINE)) {
      pieces.push(rest.subarray(0, end));
      rest = rest.subarray(end + 1);
      line += 1;
      const parsed = parseLine(Buffer.concat(pieces), line);
      pieces = [];
      held = 0;
      if (parsed) yield parsed;
    }
    pieces.push(rest);
    held += rest.length;
    if (held > MAX_LINE_BYTES) {
      yield { line: line + 1, problem: `is longer than ${MAX_LINE_BYTES} bytes` };
      return;
    }
  }
  const parsed = parseLine(Buffer.concat(pieces), line + 1);
  if (parsed) yield parsed;
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function parseLine(bytes: Buffer, line: number): JsonLine | null {
  if (bytes.length > MAX_LINE_BYTES) return { line, problem: `is longer than ${MAX_LINE_BYTES} bytes` };
  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch {
    return { line, problem: 'is not UTF-8' };
  }
  if (line === 1 && text.startsWith(BOM)) text = text.slice(1);
  if (text.trim() === '') return null;
  try {
    return { line, value: JSON.parse(text) as unknown };
  } catch {
    return { line, problem: 'is not JSON' };
  }
}
