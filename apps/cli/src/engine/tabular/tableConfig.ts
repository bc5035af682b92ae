/** The YAML file beside a table: what to predict, from what, and how. */
import { readFileSync } from 'node:fs';
import { isMap, isNode, LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { DataError } from '../dataset/jsonLines.ts';

const count = z.number().int().min(1);

const tableConfig = z.strictObject({
  /** The column to predict. */
  target: z.string().min(1),
  /** Kinds of columns; those not named are numeric when all their cells are numbers, else categorical. */
  columns: z.record(z.string(), z.enum(['numeric', 'categorical', 'ignore'])).optional(),
  delimiter: z.string().min(1).max(1).optional(),
  hidden: z.array(count).min(1).optional(),
  epochs: count.optional(),
  batch_size: count.optional(),
  learning_rate: z.number().positive().optional(),
  weight_decay: z.number().min(0).optional(),
  /** Epochs without improvement after which training ends; 0: never. */
  patience: z.number().int().min(0).optional(),
  class_weights: z.enum(['none', 'balanced']).optional(),
  min_category_count: count.optional(),
  validation: z.string().min(1).optional(),
  validation_split: z.number().min(0).lt(1).optional(),
  new_classes: z.enum(['refuse', 'add']).optional(),
  /** CSV of earlier rows that are mixed in when fine-tuning, `replay_ratio` of them to one new row. */
  replay: z.string().min(1).optional(),
  replay_ratio: z.number().positive().optional(),
});
export type TableConfig = z.output<typeof tableConfig>;

/** @throws DataError naming the line of the file */
export function readTableConfig(path: string): TableConfig {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new DataError(`cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
  const counter = new LineCounter();
  const document = parseDocument(text, { lineCounter: counter });
  const [problem] = document.errors;
  if (problem) throw new DataError(`${path}:${problem.linePos?.[0].line ?? 1}: is not YAML: ${problem.message}`);
  if (!isMap(document.contents)) throw new DataError(`${path}:1: must begin with a name, such as "target: outcome"`);
  const parsed = tableConfig.safeParse(document.toJS());
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  // An unknown name is complained about at its parent: its own line is what helps.
  const names = issue.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0]!] : issue.path;
  const node = document.getIn(names, true);
  const line = isNode(node) && node.range ? counter.linePos(node.range[0]).line : 1;
  throw new DataError(`${path}:${line}: ${names.map(String).join('.')}: ${issue.message}`);
}
