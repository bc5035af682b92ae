import type { DatasetSpec } from '@tuneloop/contracts/datasets/events';
import { AppError } from '@tuneloop/runtime/errors';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { type FrozenFacts, validateFrozen } from '../domain/validation.ts';
import { countRows, findLeaks, hashRows, insertVersion, type VersionRow } from '../store/versions.ts';

/** There is not enough to freeze. Not a failure: the run ends without action. */
export class InsufficientError extends Error {
  override readonly name = 'InsufficientError';
  readonly examples: number;
  readonly needed: number;

  constructor(message: string, examples: number, needed: number) {
    super(message);
    this.examples = examples;
    this.needed = needed;
  }
}

export interface VersionToClose {
  readonly id: string;
  readonly datasetId: string;
  readonly kind: 'sft' | 'dpo';
  readonly spec: DatasetSpec;
  readonly query: object;
  readonly requestedBy: string;
  readonly known: Pick<FrozenFacts, 'missed' | 'missingAnswers' | 'skipped'>;
}

/** Counts, checks and hashes the rows of a version in the making, and closes it. @throws InsufficientError, AppError */
export async function closeVersion(tx: Tx, version: VersionToClose): Promise<VersionRow> {
  const { id, spec } = version;
  const counts = await countRows(tx, id);
  requireEnough(spec, counts);
  const leaks = await findLeaks(tx, id);
  const validation = validateFrozen({
    ...version.known,
    leaks,
    duplicates: counts.duplicates,
    duplicateIds: counts.duplicate_ids,
    stats: {
      unique_prompts: counts.unique_prompts,
      chars_mean: counts.chars_mean,
      chars_p95: counts.chars_p95,
      multi_message: counts.multi_message,
    },
  });
  const [error] = validation.errors;
  if (error) {
    const code = `datasets.validation.${error.code}`;
    throw new AppError({ code, status: 409, retry: false, message: error.message });
  }
  return insertVersion(tx, {
    id,
    dataset_id: version.datasetId,
    kind: version.kind,
    ...(await hashRows(tx, id)),
    train_examples: counts.train_examples,
    validation_examples: counts.validation_examples,
    test_examples: counts.test_examples,
    query: version.query,
    validation,
    leaked_groups: leaks.count,
    open_quarantine: 0,
    created_by: version.requestedBy,
  });
}

function requireEnough(
  spec: DatasetSpec,
  counts: { train_examples: number; validation_examples: number; test_examples: number },
): void {
  const examples = counts.train_examples + counts.validation_examples + counts.test_examples;
  if (examples < spec.min_examples) {
    const reason = `There are ${examples} examples; at least ${spec.min_examples} are needed.`;
    throw new InsufficientError(reason, examples, spec.min_examples);
  }
  if (counts.train_examples === 0) {
    const reason = `All ${examples} examples lie in groups that are held out; none is left to train on.`;
    throw new InsufficientError(reason, 0, spec.min_examples);
  }
}
