import {
  datasetFailed,
  datasetInsufficient,
  datasetReady,
  type DocumentSource,
} from '@tuneloop/contracts/datasets/events';
import { AppError, describeError } from '@tuneloop/runtime/errors';
import { newId } from '@tuneloop/runtime/ids';
import { assertLease, type Lease, LeaseLostError } from '@tuneloop/runtime/leases';
import { emit } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { DatasetsContext } from '../config.ts';
import type { FrozenFacts } from '../domain/validation.ts';
import { lockErasures } from '../store/documents.ts';
import { freezeRows } from '../store/freezeRows.ts';
import { findFreezeTask, type FreezeOutcome, type FreezeTask, postponeFreeze, settleFreeze } from '../store/freezes.ts';
import { findVersionById, type VersionRow } from '../store/versions.ts';
import { buildFromDocuments, prepareDocuments } from './freezeDocuments.ts';
import { catchUp } from './catchUp.ts';
import { closeVersion, InsufficientError } from './closeVersion.ts';
import { fetchMissing } from './fetchMissing.ts';

/** Claims of one freeze before it is given up: processes that died and failures that pass. */
const MAX_CLAIMS = 8;
const FIRST_WAIT_MS = 250;
const MAX_WAIT_MS = 30_000;
/** The longest that one statement of a freeze may take: a million examples took seven minutes on two crowded cores. */
const STATEMENT_MINUTES = 20;

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
    if (task.spec.dataset_version_id === undefined) await freezeNew(ctx, lease, task);
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
  const known = error instanceof AppError && (final || error.status < 500);
  const reason = known ? error.message : `It failed ${lease.epoch} times. The log of the datasets service says why.`;
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

async function freezeNew(ctx: DatasetsContext, lease: Lease, task: FreezeTask): Promise<void> {
  const { kind } = task;
  if (kind !== 'sft' && kind !== 'dpo') {
    throw new AppError({
      code: 'datasets.kind.unsupported',
      status: 400,
      message: `Datasets of kind ${kind} cannot be made from feedback yet: use sft or dpo.`,
      field: 'dataset.kind',
    });
  }
  const { documents } = task.spec;
  const build =
    documents === undefined
      ? await prepareFeedback(ctx, lease, { ...task, kind })
      : await prepareFromDocuments(ctx, lease, { ...task, kind }, documents);
  await inTransaction(ctx, lease, async (tx) => {
    await tx.query(`SELECT set_config('statement_timeout', $1, true)`, [`${STATEMENT_MINUTES}min`]);
    const version = await build(tx);
    if (task.announced) await announceReady(tx, task, version);
    await finish(tx, lease, { status: 'ready', versionId: version.id });
  });
}

type Build = (tx: Tx) => Promise<VersionRow>;
type KnownTask = FreezeTask & { readonly kind: 'sft' | 'dpo' };

async function prepareFeedback(ctx: DatasetsContext, lease: Lease, task: KnownTask): Promise<Build> {
  const missed = await catchUp(ctx, lease.projectId, lease.signal);
  const missingAnswers = await fetchMissing(ctx, lease.projectId, lease.signal);
  return (tx) => buildVersion(tx, task, { missed, missingAnswers });
}

async function prepareFromDocuments(
  ctx: DatasetsContext,
  lease: Lease,
  task: KnownTask,
  source: DocumentSource,
): Promise<Build> {
  if (task.kind !== 'sft') {
    throw new AppError({
      code: 'datasets.documents.kind',
      status: 400,
      message: `Documents make examples of kind sft, not ${task.kind}: ask for kind sft.`,
      field: 'kind',
    });
  }
  const prepared = await prepareDocuments(ctx, lease, source);
  return (tx) => buildFromDocuments(tx, task, source, prepared);
}

async function buildVersion(
  tx: Tx,
  task: KnownTask,
  known: Pick<FrozenFacts, 'missed' | 'missingAnswers'>,
): Promise<VersionRow> {
  const id = newId();
  await lockErasures(tx, 'shared');
  const skipped = await freezeRows(tx, id, task.kind, task.spec);
  return closeVersion(tx, {
    id,
    datasetId: task.dataset_id,
    kind: task.kind,
    spec: task.spec,
    query: { source: 'feedback', ...task.spec },
    requestedBy: task.requested_by,
    known: { ...known, skipped },
  });
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
