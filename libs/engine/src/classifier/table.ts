/** Tables: what a classifier learns from and predicts for. */
import { EngineError } from '../errors.ts';
import { shown } from '../json.ts';

/** Numbers may be written as text. `null`, blank text, and `NA`, `NaN`, `null` are missing. */
export type Cell = string | number | boolean | null;

export interface Table {
  readonly columns: readonly string[];
  /** Each as long as `columns`. */
  readonly rows: readonly (readonly Cell[])[];
  /** Line of each row in the file it came from, for messages; default: 1, 2, … */
  readonly lines?: readonly number[];
}

export type ColumnKind = 'numeric' | 'categorical';

const MISSING = new Set(['', 'na', 'n/a', 'nan', 'null', 'none']);
const MAX_COLUMNS = 4096;

export function isMissing(cell: Cell): boolean {
  if (cell === null || (typeof cell === 'number' && Number.isNaN(cell))) return true;
  return typeof cell === 'string' && MISSING.has(cell.trim().toLowerCase());
}

/** The number in a cell, or undefined when it holds something else. */
function numberIn(cell: Cell): number | undefined {
  const value = typeof cell === 'string' ? Number(cell.trim()) : Number(cell);
  return Number.isFinite(value) ? value : undefined;
}

/** Name of a category, the same however the cell is typed. */
export const categoryOf = (cell: Cell): string => (typeof cell === 'string' ? cell.trim() : String(cell));

export const lineOf = (table: Table, row: number): number => table.lines?.[row] ?? row + 1;

/** @throws EngineError `engine.classifier.bad_table` for a ragged or empty table or a repeated column */
export function checkTable(table: Table): void {
  const bad = (why: string): EngineError => new EngineError('engine.classifier.bad_table', why);
  if (table.rows.length === 0) throw bad('the table has no rows');
  if (table.columns.length > MAX_COLUMNS) throw bad(`the table has more than ${MAX_COLUMNS} columns`);
  const repeated = table.columns.find((name, i) => table.columns.indexOf(name) !== i);
  if (repeated !== undefined) throw bad(`the column ${repeated} is there twice: rename one`);
  table.rows.forEach((row, i) => {
    if (row.length === table.columns.length) return;
    throw bad(`line ${lineOf(table, i)} has ${row.length} cells, the table has ${table.columns.length} columns`);
  });
}

/** The cells of one column. @throws EngineError `engine.classifier.no_column` naming what there is */
export function columnOf(table: Table, name: string): Cell[] {
  const at = table.columns.indexOf(name);
  if (at < 0) {
    const message = `the table has no column ${name}; its columns are ${table.columns.join(', ')}`;
    throw new EngineError('engine.classifier.no_column', message);
  }
  return table.rows.map((row) => row[at]!);
}

/** A numeric column, NaN where missing. @throws EngineError `engine.classifier.bad_cell` naming line and column */
export function numbersOf(table: Table, name: string): Float64Array {
  return Float64Array.from(columnOf(table, name), (cell, row) => {
    if (isMissing(cell)) return Number.NaN;
    const value = numberIn(cell);
    if (value !== undefined) return value;
    const message = `line ${lineOf(table, row)}, column ${name}: ${shown(cell)} is not a number; make the column categorical or leave the cell empty`;
    throw new EngineError('engine.classifier.bad_cell', message);
  });
}

/** Numeric when every cell that is not missing is a number, and at least one is. */
export function inferKind(table: Table, name: string): ColumnKind {
  const present = columnOf(table, name).filter((cell) => !isMissing(cell));
  return present.length > 0 && present.every((cell) => typeof cell !== 'boolean' && numberIn(cell) !== undefined)
    ? 'numeric'
    : 'categorical';
}

/** Part of a table, rows in the order of `indices`. */
export function rowsOf(table: Table, indices: readonly number[]): Table {
  return {
    columns: table.columns,
    rows: indices.map((i) => table.rows[i]!),
    lines: indices.map((i) => lineOf(table, i)),
  };
}
