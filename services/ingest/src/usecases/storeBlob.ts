import { createHash } from 'node:crypto';
import { blobKey, type BlobRef } from '@tuneloop/runtime/blobs/blobStore';
import { describeError } from '@tuneloop/runtime/errors';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { IngestContext } from '../config.ts';
import { deleteBlobSweep, findBlobSweep, insertBlobSweep, isBlobReferred, lockBlob } from '../store/blobs.ts';

/** Longer than any upload takes from its announcement to its commit. */
const ABANDONED_MS = 3_600_000;

/** A blob that is about to be stored under an id of one's own. */
export interface BlobAttempt {
  readonly id: string;
  readonly projectId: string;
  readonly bytes: Uint8Array;
  readonly contentType: string;
}

/**
 * Stores a blob together with the rows that refer to it, or not at all.
 *
 *   announced (row committed) -> stored (blob there) -> referred to (rows commit, announcement gone)
 *        |                            |-- transaction fails --> swept at once
 *        |-- process killed ----------+-----------------------> swept when the announcement is due
 *
 * @param commit opens the transaction; it may leave `work` out, as a replayed request does
 */
export async function withBlob<T>(
  ctx: IngestContext,
  attempt: BlobAttempt,
  commit: (store: (tx: Tx) => Promise<BlobRef>) => Promise<T>,
): Promise<T> {
  const { id, projectId, bytes, contentType } = attempt;
  const key = blobKey(ctx.name, projectId, createHash('sha256').update(bytes).digest('hex'));
  const abandonedAt = new Date(ctx.clock().getTime() + ABANDONED_MS);
  await ctx.pg.withTenant(projectId, (tx) => insertBlobSweep(tx, id, key, abandonedAt));
  let committed = false;
  try {
    return await commit(async (tx) => {
      await lockBlob(tx, key);
      const stored = await ctx.blobs.put(projectId, bytes, { contentType });
      ctx.faults.hit('ingest.after_blob_put');
      await deleteBlobSweep(tx, id);
      tx.afterCommit(() => {
        committed = true;
      });
      return stored;
    });
  } finally {
    if (!committed) await sweepNow(ctx, projectId, id);
  }
}

/** Deletes the announced blob if nothing refers to it. What fails here is left to the sweeper. */
async function sweepNow(ctx: IngestContext, projectId: string, id: string): Promise<void> {
  try {
    await ctx.pg.withTenant(projectId, (tx) => sweepBlob(tx, ctx, id));
  } catch (error) {
    ctx.log.warn({ id, reason: describeError(error) }, 'a blob without an owner is left to the sweeper');
  }
}

/** One sweep: looks whether anything refers to the blob and deletes it if not. */
export async function sweepBlob(tx: Tx, ctx: Pick<IngestContext, 'blobs'>, id: string): Promise<void> {
  const sweep = await findBlobSweep(tx, id);
  if (!sweep) return;
  await lockBlob(tx, sweep.blob_key);
  if (!(await isBlobReferred(tx, sweep.blob_key))) await ctx.blobs.delete(sweep.blob_key);
  await deleteBlobSweep(tx, id);
}
