import { AppError, badRequest } from '@tuneloop/runtime/errors';
import { checkJsonValue } from '@tuneloop/runtime/http/jsonBody';
import { deterministicId } from '@tuneloop/runtime/ids';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { DatasetsContext } from '../config.ts';
import { readJsonLines } from '../domain/jsonLines.ts';
import { type FileExample, type FileMethod, LineError, parseLine } from '../domain/trainingFile.ts';
import { MAX_NAMED, validateFrozen } from '../domain/validation.ts';
import { insertDataset } from '../store/datasets.ts';
import type { FileRow } from '../store/files.ts';
import {
  beginVersion,
  countRows,
  findLeaks,
  findVersionById,
  hashRows,
  insertVersion,
  type VersionRow,
} from '../store/versions.ts';
import { ExampleWriter } from './exampleWriter.ts';
import { requireFile } from './uploads.ts';

/** As OpenAI's API. */
const MIN_EXAMPLES = 10;
/** Reading stops after this many lines with errors: what is wrong is clear by then. */
const MAX_LINE_ERRORS = 100;

export interface FileFreeze {
  readonly trainingFile: string;
  readonly validationFile: string | null;
  readonly method: FileMethod;
  readonly requestedBy: string;
}

/**
 * Makes a version of an uploaded file. The same files and method always are the same version.
 *
 * Each file is its split, whole: every line of the training file is trained on but those whose prompt lies in the
 * project's permanent test split, which are left out and named. (ADR 7)
 * @throws AppError 404 for an unknown file, 400 naming the first bad lines.
 */
export async function freezeFile(tx: Tx, ctx: DatasetsContext, request: FileFreeze): Promise<VersionRow> {
  const training = await requireFile(tx, request.trainingFile, 'training_file');
  const validation =
    request.validationFile === null ? null : await requireFile(tx, request.validationFile, 'validation_file');
  const versionId = deterministicId(
    'file-version-2',
    tx.projectId ?? '',
    request.method,
    training.sha256,
    validation?.sha256 ?? '',
  );
  // A repeated call waits for the first and gets its version.
  await tx.execute('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`datasets.file:${versionId}`]);
  const existing = await findVersionById(tx, versionId);
  if (existing) return existing;

  await beginVersion(tx, versionId);
  const writer = new ExampleWriter(tx, versionId);
  await readFile(ctx, writer, training, { method: request.method, field: 'training_file', split: 'train' });
  if (writer.lines < MIN_EXAMPLES) {
    throw badRequest(
      'datasets.file.too_few',
      `The training file has ${writer.lines} examples; at least ${MIN_EXAMPLES} are needed.`,
      'training_file',
    );
  }
  if (validation) {
    await readFile(ctx, writer, validation, { method: request.method, field: 'validation_file', split: 'validation' });
  }
  return closeVersion(tx, request, { versionId, training, validation, heldBack: writer.heldBack });
}

interface Part {
  readonly method: FileMethod;
  readonly field: 'training_file' | 'validation_file';
  readonly split: 'train' | 'validation';
}

async function readFile(ctx: DatasetsContext, writer: ExampleWriter, file: FileRow, part: Part): Promise<void> {
  const problems: string[] = [];
  const content = await ctx.blobs.get(file.blob_key);
  try {
    for await (const item of readJsonLines(content)) {
      const parsed = 'problem' in item ? item.problem : parseExample(item.value, part.method);
      if (typeof parsed === 'string') problems.push(`Line ${item.line}: ${parsed}.`);
      else if (problems.length === 0) {
        await writer.add({ file, line: item.line, example: parsed, split: part.split });
      }
      if (problems.length >= MAX_LINE_ERRORS) break;
    }
  } finally {
    content.destroy();
  }
  if (problems.length > 0) {
    const shown = problems.slice(0, MAX_NAMED).join(' ');
    const more = problems.length - MAX_NAMED;
    const rest = more <= 0 ? '' : ` (and ${problems.length >= MAX_LINE_ERRORS ? 'at least ' : ''}${more} more lines)`;
    throw badRequest('datasets.file.invalid', `${shown}${rest}`, part.field);
  }
  await writer.flush();
}

/** The example, or what is wrong with the line. */
function parseExample(value: unknown, method: FileMethod): FileExample | string {
  try {
    checkJsonValue(value, 'the line');
    return parseLine(value, method);
  } catch (error) {
    if (error instanceof LineError || error instanceof AppError) return error.message;
    throw error;
  }
}

interface Written {
  readonly versionId: string;
  readonly training: FileRow;
  readonly validation: FileRow | null;
  /** Lines of the training file. */
  readonly heldBack: readonly number[];
}

async function closeVersion(tx: Tx, request: FileFreeze, written: Written): Promise<VersionRow> {
  const { versionId, training, validation } = written;
  const counts = await countRows(tx, versionId);
  if (counts.train_examples === 0) {
    throw badRequest(
      'datasets.file.all_held_out',
      "Every prompt of the training file is in this project's test split, which is never trained on. Add other prompts.",
      'training_file',
    );
  }
  const leaks = await findLeaks(tx, versionId);
  const checked = validateFrozen({
    skipped: [],
    missed: [],
    missingAnswers: 0,
    leaks,
    heldBack: written.heldBack,
    duplicates: counts.duplicates,
    duplicateIds: counts.duplicate_ids,
    stats: {
      unique_prompts: counts.unique_prompts,
      chars_mean: counts.chars_mean,
      chars_p95: counts.chars_p95,
      multi_message: counts.multi_message,
    },
  });
  const datasetId = deterministicId('file-dataset', tx.projectId ?? '', request.method, training.sha256);
  await insertDataset(tx, {
    id: datasetId,
    name: training.filename,
    kind: request.method,
    slot: 'default',
    source: 'file',
    created_by: request.requestedBy,
  });
  return insertVersion(tx, {
    id: versionId,
    dataset_id: datasetId,
    kind: request.method,
    ...(await hashRows(tx, versionId)),
    train_examples: counts.train_examples,
    validation_examples: counts.validation_examples,
    test_examples: counts.test_examples,
    query: {
      source: 'file',
      method: request.method,
      training_file: request.trainingFile,
      training_sha256: training.sha256,
      validation_file: request.validationFile,
      validation_sha256: validation?.sha256 ?? null,
    },
    // The files' owner decided the splits: a leak is said and kept, and stands in the way of promotion, not of training.
    validation: { ...checked, errors: [], warnings: [...checked.errors, ...checked.warnings] },
    leaked_groups: leaks.count,
    open_quarantine: 0,
    created_by: request.requestedBy,
  });
}
