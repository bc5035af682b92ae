/** Reads a JSON Lines file. Every complaint names the file and the line; several lines are complained about at once. */
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';

const MAX_ROWS = 2_000_000;
const MAX_LINE_CHARS = 4 * 1024 * 1024;
/** Wrong lines shown before the reading ends: enough to see a pattern. */
const MAX_SHOWN = 5;
const BOM = '\uFEFF';

/** A file that cannot be trained on. Its message is for whoever typed the command. */
export class DataError extends Error {
  override readonly name = 'DataError';
}

/** What is wrong with one line, in words that follow `file:3: `. */
export class LineError extends Error {
  override readonly name = 'LineError';
}

function parseJson(text: string): unknown {
  if (text.length > MAX_LINE_CHARS) throw new LineError(`is longer than ${MAX_LINE_CHARS} characters: split it`);
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    const why = error instanceof Error ? error.message : 'unknown syntax';
    throw new LineError(`is not JSON (${why}). Each line must be one complete {…} object`);
  }
}

/**
 * Parses each line that is not blank.
 * @param parse makes a row of a line's value, or throws LineError
 * @throws DataError naming up to five wrong lines, or when the file cannot be read or holds nothing
 */
export async function readJsonLines<T>(path: string, parse: (value: unknown, line: number) => T): Promise<T[]> {
  const rows: T[] = [];
  const problems: string[] = [];
  let line = 0;
  try {
    for await (const text of createInterface({ input: createReadStream(path, 'utf8'), crlfDelay: Infinity })) {
      line++;
      const content = line === 1 && text.startsWith(BOM) ? text.slice(1) : text;
      if (content.trim() === '') continue;
      if (rows.length >= MAX_ROWS)
        throw new DataError(`${path} has more than ${MAX_ROWS} lines: train on a part of it`);
      try {
        rows.push(parse(parseJson(content), line));
      } catch (error) {
        if (!(error instanceof LineError)) throw error;
        problems.push(`${path}:${line}: ${error.message}`);
        if (problems.length === MAX_SHOWN) break;
      }
    }
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw new DataError(`cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (problems.length > 0) {
    const more = problems.length === MAX_SHOWN ? `\nReading stopped after ${MAX_SHOWN} wrong lines.` : '';
    throw new DataError(problems.join('\n') + more);
  }
  if (rows.length === 0) throw new DataError(`${path} holds no examples`);
  return rows;
}
