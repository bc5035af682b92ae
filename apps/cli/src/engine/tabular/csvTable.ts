import { createReadStream } from 'node:fs';
import type { Table } from '@tuneloop/engine/classifier/table';
import { CsvError, parse } from 'csv-parse';
import { DataError } from '../dataset/jsonLines.ts';

const MAX_ROWS = 5_000_000;
const MAX_RECORD_CHARS = 1024 * 1024;

interface CsvRecord {
  readonly record: string[];
  readonly info: { readonly lines: number };
}

/**
 * Reads a CSV file (RFC 4180) whose first line names the columns. Cells stay text; lines are counted as an editor does.
 * @throws DataError naming the line
 */
export async function readCsv(path: string, delimiter = ','): Promise<Table> {
  const parser = parse({
    delimiter,
    bom: true,
    info: true,
    // A row of another length is complained about below, with its line.
    relax_column_count: true,
    skip_empty_lines: true,
    max_record_size: MAX_RECORD_CHARS,
  });
  const source = createReadStream(path);
  source.on('error', (error) => parser.destroy(error));
  let columns: string[] | undefined;
  const rows: string[][] = [];
  const lines: number[] = [];
  try {
    for await (const { record, info } of source.pipe(parser) as AsyncIterable<CsvRecord>) {
      if (columns === undefined) {
        columns = record.map((name) => name.trim());
        continue;
      }
      if (record.length !== columns.length) {
        throw new DataError(`${path}:${info.lines}: has ${record.length} cells, the header has ${columns.length}`);
      }
      if (rows.length >= MAX_ROWS) throw new DataError(`${path} has more than ${MAX_ROWS} rows: train on a part of it`);
      rows.push(record);
      lines.push(info.lines);
    }
  } catch (error) {
    if (error instanceof DataError) throw error;
    if (error instanceof CsvError) throw new DataError(`${path} is not valid CSV: ${error.message}`);
    throw new DataError(`cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (columns === undefined || rows.length === 0) throw new DataError(`${path} holds no rows below a header`);
  const nameless = columns.indexOf('');
  if (nameless >= 0) throw new DataError(`${path}:1: column ${nameless + 1} has no name`);
  return { columns, rows, lines };
}
