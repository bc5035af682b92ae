import {
  datasetFailed,
  datasetInsufficient,
  datasetReady,
  type DatasetSpec,
} from '@tuneloop/contracts/datasets/events';
import { AppError, describeError } from '@tuneloop/runtime/errors';
import { newId } from '@tuneloop/runtime/ids';
import { assertLease, type Lease, LeaseLostError } from '@tuneloop/runtime/leases';
import { emit } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { DatasetsContext } from '../config.ts';
import { type FrozenFacts, validateFrozen } from '../domain/validation.ts';
import { freezeRows } from '../store/freezeRows.ts';
import { findFreezeTask, type FreezeOutcome, type FreezeTask, postponeFreeze, settleFreeze } from '../store/freezes.ts';
import { countRows, findLeaks, findVersionById, hashRows, insertVersion, type VersionRow } from '../store/versions.ts';
import { catchUp } from './catchUp.ts';
import { fetchMissing } from './fetchMissing.ts';

/** Claims of one freeze before it is given up: processes that died and failures that pass. */
const MAX_CLAIMS = 8;
const FIRST_WAIT_MS = 250;
const MAX_WAIT_MS = 30_000;
/** The longest that one statement of a freeze may take: a million examples took seven minutes on two crowded cores. */
const STATEMENT_MINUTES = 20;

/** There is not enough to freeze. Not a failure: the run ends without action. */
class InsufficientError extends Error {
  override readonly name = 'InsufficientError';
  readonly examples: number;
  readonly needed: number;

  constructor(message: string, examples: number, needed: number) {
    super(message);
    this.examples = examples;
    this.needed = needed;
  }
}

/**
 * The leased work of one freeze:
 *
 *   catch up -> fetch what is missing -> rows, checks, hash, version and event in one transaction
 *
 * A process that dies on the way leaves nothing but the lease; the next one starts over. What is not enough and what
 * can never work settle the freeze; anything else is tried again, later and later.
 */
export async function runFreeze(ctx: DatasetsContext, lease: Lease): Promise<void> {
  const task = await ctx.pg.withTenant(lease.projectId, (tx) => findFreezeTask(tx, lease.id));
  if (!task) return;
  try {
    if (task.spec.dataset_version_id === undefined) await freezeFeedback(ctx, lease, task);
    else await announceExisting(ctx, lease, task, task.spec.dataset_version_id);
  } catch (error) {
    if (error instanceof LeaseLostError || lease.signal.aborted) throw error;
    await settleOrPostpone(ctx, lease, task, error);
  }
}

async function settleOrPostpone(ctx: DatasetsContext, lease: Lease, task: FreezeTask, error: unknown): Promise<void> {
  const settle = (outcome: FreezeOutcome, tell: (tx: Tx) => Promise<void>): Promise<void> =>
    inTransaction(ctx, lease, async (tx) => {
      if (task.announced) await tell(tx);
      await finish(tx, lease, outcome);
    });
  const cause = { subject: lease.id, correlationId: task.correlation_id, causationId: task.causation_id };
  if (error instanceof InsufficientError) {
    const { message: reason, examples, needed } = error;
    await settle({ status: 'insufficient', code: 'datasets.insufficient', reason }, async (tx) => {
      await emit(tx, datasetInsufficient, { ...cause, data: { request_id: lease.id, examples, needed, reason } });
    });
    return;
  }
  const final = error instanceof AppError && !error.retry;
  if (!final && lease.epoch < MAX_CLAIMS) {
    const waitMs = Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** (lease.epoch - 1));
    ctx.log.warn({ freeze: lease.id, waitMs, reason: describeError(error) }, 'freeze failed; will retry');
    await ctx.pg.withTenant(lease.projectId, (tx) => postponeFreeze(tx, lease.id, lease.epoch, waitMs));
    return;
  }
  const code = error instanceof AppError ? error.code : 'datasets.freeze.failed';
  const reason = final ? error.message : `It failed ${lease.epoch} times. The log of the datasets service says why.`;
  ctx.log.error({ freeze: lease.id, reason: describeError(error) }, 'freeze given up');
  await settle({ status: 'failed', code, reason }, async (tx) => {
    await emit(tx, datasetFailed, { ...cause, data: { request_id: lease.id, code, reason } });
  });
}

/** A training request may name a version that is there already. */
async function announceExisting(
  ctx: DatasetsContext,
  lease: Lease,
  task: FreezeTask,
  versionId: string,
): Promise<void> {
  await inTransaction(ctx, lease, async (tx) => {
    const version = await findVersionById(tx, versionId);
    if (!version) {
      throw new AppError({
        code: 'datasets.version.not_found',
        status: 404,
        message: `There is no dataset version ${versionId}.`,
        field: 'dataset.dataset_version_id',
      });
    }
    if (version.kind !== task.kind) {
      throw new AppError({
        code: 'datasets.version.wrong_kind',
        status: 400,
        message: `The dataset version is of kind ${version.kind}; the request needs ${task.kind}.`,
        field: 'dataset.dataset_version_id',
      });
    }
    await announceReady(tx, task, version);
    await finish(tx, lease, { status: 'ready', versionId });
  });
}

async function freezeFeedback(ctx: DatasetsContext, lease: Lease, task: FreezeTask): Promise<void> {
  const { kind } = task;
  if (kind !== 'sft' && kind !== 'dpo') {
    throw new AppError({
      code: 'datasets.kind.unsupported',
      status: 400,
      message: `Datasets of kind ${kind} cannot be made from feedback yet: use sft or dpo.`,
      field: 'dataset.kind',
    });
  }
  const missed = await catchUp(ctx, lease.projectId, lease.signal);
  const missingAnswers = await fetchMissing(ctx, lease.projectId, lease.signal);
  await inTransaction(ctx, lease, async (tx) => {
    await tx.query(`SELECT set_config('statement_timeout', $1, true)`, [`${STATEMENT_MINUTES}min`]);
    const version = await buildVersion(tx, { ...task, kind }, { missed, missingAnswers });
    if (task.announced) await announceReady(tx, task, version);
    await finish(tx, lease, { status: 'ready', versionId: version.id });
  });
}

async function buildVersion(
  tx: Tx,
  task: FreezeTask & { readonly kind: 'sft' | 'dpo' },
  known: Pick<FrozenFacts, 'missed' | 'missingAnswers'>,
): Promise<VersionRow> {
  const id = newId();
  const skipped = await freezeRows(tx, id, task.kind, task.spec);
  const counts = await countRows(tx, id);
  requireEnough(task.spec, counts);
  const leaks = await findLeaks(tx, id);
  const validation = validateFrozen({
    ...known,
    skipped,
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
    dataset_id: task.dataset_id,
    kind: task.kind,
    ...(await hashRows(tx, id)),
    train_examples: counts.train_examples,
    validation_examples: counts.validation_examples,
    test_examples: counts.test_examples,
    query: { source: 'feedback', ...task.spec },
    validation,
    leaked_groups: leaks.count,
    open_quarantine: 0,
    created_by: task.requested_by,
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

async function announceReady(tx: Tx, task: FreezeTask, version: VersionRow): Promise<void> {
  const { train_examples: train, validation_examples: validation, test_examples: test } = version;
  await emit(tx, datasetReady, {
    subject: version.id,
    correlationId: task.correlation_id,
    causationId: task.causation_id,
    data: {
      request_id: task.id,
      dataset_id: version.dataset_id,
      dataset_version_id: version.id,
      kind: version.kind,
      content_hash: version.content_hash,
      examples: train + validation + test,
      splits: { train, validation, test },
      test_groups: version.test_groups,
      test_fingerprint: version.test_fingerprint,
    },
  });
}

/** The lease is asserted last: its row stays free for heartbeats while the rows are made. */
async function finish(tx: Tx, lease: Lease, outcome: FreezeOutcome): Promise<void> {
  await assertLease(tx, 'freezes', lease);
  await settleFreeze(tx, lease.id, outcome);
}

async function inTransaction(ctx: DatasetsContext, lease: Lease, work: (tx: Tx) => Promise<void>): Promise<void> {
  await ctx.pg.withTenant(lease.projectId, work, { actor: 'service:datasets' });
}
