import type { BlobRef } from '@tuneloop/runtime/blobs/blobStore';
import { AppError, describeError } from '@tuneloop/runtime/errors';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { DatasetsContext } from '../config.ts';
import { fileUuid } from '../domain/fileId.ts';
import { type FileRow, findFileById, insertFile, isBlobUsed, lockBlob } from '../store/files.ts';

/** Lists a stored blob as a file. The blob is there when this commits, whoever deletes files beside it. */
export async function recordUpload(
  tx: Tx,
  ctx: DatasetsContext,
  blob: BlobRef,
  row: Pick<FileRow, 'id' | 'filename' | 'purpose' | 'created_by'>,
): Promise<FileRow> {
  await lockBlob(tx, blob.key);
  if (!(await ctx.blobs.exists(blob.key))) {
    throw new AppError({
      code: 'datasets.file.content_lost',
      status: 503,
      message: 'The same content was just being deleted. Upload the file again.',
      retry: true,
    });
  }
  return insertFile(tx, { ...row, bytes: blob.size, sha256: blob.sha256, blob_key: blob.key });
}

/** Removes a blob that no file names any more. A failure leaves bytes that nothing refers to, never a file without bytes. */
export async function dropUnusedBlob(ctx: DatasetsContext, projectId: string, blobKey: string): Promise<void> {
  // What other services made is theirs to remove.
  if (!blobKey.startsWith(`${ctx.name}/`)) return;
  try {
    await ctx.pg.withTenant(projectId, async (tx) => {
      await lockBlob(tx, blobKey);
      if (!(await isBlobUsed(tx, blobKey))) await ctx.blobs.delete(blobKey);
    });
  } catch (error) {
    ctx.log.warn({ blob: blobKey, reason: describeError(error) }, 'an unused blob could not be removed');
  }
}

/** @throws AppError 404 naming the field. */
export async function requireFile(tx: Tx, name: string, field: string): Promise<FileRow> {
  const id = fileUuid(name);
  const row = id === undefined ? undefined : await findFileById(tx, id);
  if (row) return row;
  const message = `No such File object: ${name.slice(0, 100)}`;
  throw new AppError({ code: 'datasets.file.not_found', status: 404, message, field });
}
