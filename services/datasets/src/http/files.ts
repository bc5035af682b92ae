import {
  createFile,
  deleteFile,
  listFiles as listFilesRoute,
  retrieveFile,
  retrieveFileContent,
} from '@tuneloop/contracts/datasets/files';
import { registerFile } from '@tuneloop/contracts/datasets/internal';
import { hashOfKey, isKeyOfProject } from '@tuneloop/runtime/blobs/blobStore';
import type { BlobRef } from '@tuneloop/runtime/blobs/blobStore';
import { AppError, badRequest, notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { newId } from '@tuneloop/runtime/ids';
import type { FastifyRequest } from 'fastify';
import type { DatasetsContext } from '../config.ts';
import { fileName, fileUuid } from '../domain/fileId.ts';
import { storableText } from '../domain/storable.ts';
import { deleteFileById, type FileRow, listFiles } from '../store/files.ts';
import { dropUnusedBlob, recordUpload, requireFile } from '../usecases/uploads.ts';

const PURPOSE = 'fine-tune';
const MAX_FILENAME_CHARS = 255;
const MAX_FIELDS = 10;
/** Form fields and boundaries beside the file. */
const FORM_OVERHEAD_BYTES = 64 * 1024;

/** `/v1/files` as OpenAI's SDKs call it. */
export function mountFiles(app: HttpApp, ctx: DatasetsContext): void {
  mountRoute(
    app,
    ctx,
    createFile,
    async ({ auth, raw, signal, idempotent }) => {
      const upload = await readUpload(ctx, raw, auth.projectId, signal);
      try {
        return await idempotent(async (tx) => {
          const named = { id: newId(), filename: upload.filename, purpose: PURPOSE, created_by: auth.actor };
          return fileBody(await recordUpload(tx, ctx, upload.blob, named));
        });
      } catch (error) {
        await dropUnusedBlob(ctx, auth.projectId, upload.blob.key);
        throw error;
      }
    },
    { transaction: false },
  );

  mountRoute(app, ctx, listFilesRoute, async ({ query, tx }) => {
    const after = query.after === undefined ? null : fileUuid(query.after);
    if (after === undefined) throw badRequest('datasets.cursor_invalid', 'after must be the id of a file', 'after');
    const { limit, order, purpose = null } = query;
    const rows = await listFiles(tx, { limit: limit + 1, after, purpose, order });
    const data = rows.slice(0, limit).map(fileBody);
    return {
      object: 'list',
      data,
      first_id: data[0]?.id ?? null,
      last_id: data.at(-1)?.id ?? null,
      has_more: rows.length > limit,
    };
  });

  mountRoute(app, ctx, retrieveFile, async ({ params, tx }) => fileBody(await requireFile(tx, params.file_id, 'id')));

  mountRoute(
    app,
    ctx,
    retrieveFileContent,
    async ({ params, tenant, reply }) => {
      const row = await tenant((tx) => requireFile(tx, params.file_id, 'id'));
      const content = await ctx.blobs.get(row.blob_key);
      void reply
        .header('content-length', row.bytes)
        .header('content-disposition', `attachment; filename*=UTF-8''${encodeURIComponent(row.filename)}`);
      return content;
    },
    { transaction: false },
  );

  mountRoute(
    app,
    ctx,
    deleteFile,
    async ({ params, auth, tenant }) => {
      const row = await tenant(async (tx) => {
        const found = await requireFile(tx, params.file_id, 'id');
        return deleteFileById(tx, found.id);
      });
      if (row) await dropUnusedBlob(ctx, auth.projectId, row.blob_key);
      return { id: params.file_id, object: 'file', deleted: true };
    },
    { transaction: false },
  );

  mountRoute(app, ctx, registerFile, async ({ body, auth, tx }) => {
    const { storage_key: key, bytes: size, filename, purpose } = body;
    if (!isKeyOfProject(key, auth.projectId)) {
      throw notFound('blobs.not_found', 'The project has no blob under this storage_key.');
    }
    const blob = { key, sha256: hashOfKey(key), size };
    const row = await recordUpload(tx, ctx, blob, { id: newId(), filename, purpose, created_by: auth.actor });
    return { id: fileName(row.id) };
  });
}

function fileBody(row: FileRow) {
  return {
    id: fileName(row.id),
    object: 'file' as const,
    bytes: row.bytes,
    created_at: Math.floor(row.created_at.getTime() / 1000),
    filename: row.filename,
    purpose: row.purpose,
    status: 'processed' as const,
  };
}

interface Upload {
  readonly blob: BlobRef;
  readonly filename: string;
}

/** Reads the form to its end; the file goes to the blob store as it arrives. What is refused leaves no blob. */
async function readUpload(
  ctx: DatasetsContext,
  raw: FastifyRequest,
  projectId: string,
  signal: AbortSignal,
): Promise<Upload> {
  const maxBytes = ctx.config.MAX_FILE_BYTES;
  if (Number(raw.headers['content-length'] ?? 0) > maxBytes + FORM_OVERHEAD_BYTES) throw fileTooLarge(maxBytes);
  let upload: Upload | undefined;
  let purpose: string | undefined;
  try {
    // One byte more than is allowed reaches the store, which then refuses it and keeps nothing.
    for await (const part of raw.parts({ limits: { fileSize: maxBytes + 1, files: 1, fields: MAX_FIELDS } })) {
      if (part.type === 'field') {
        purpose = checkField(part.fieldname, part.value) ?? purpose;
      } else {
        if (part.fieldname !== 'file') throw refusedField(part.fieldname);
        const filename = checkFilename(part.filename);
        const options = { contentType: 'application/jsonl', maxBytes, signal };
        upload = { blob: await ctx.blobs.put(projectId, part.file, options), filename };
      }
    }
    if (!upload) throw badRequest('datasets.file.missing', "'file' is a required property", 'file');
    if (purpose === undefined)
      throw badRequest('datasets.file.purpose_missing', "'purpose' is a required property", 'purpose');
    if (upload.blob.size === 0) throw badRequest('datasets.file.empty', 'The file is empty', 'file');
    return upload;
  } catch (error) {
    if (upload) await dropUnusedBlob(ctx, projectId, upload.blob.key);
    throw error;
  }
}

/** The purpose, when this is it. */
function checkField(name: string, value: unknown): string | undefined {
  if (name !== 'purpose') throw refusedField(name);
  if (value === PURPOSE) return PURPOSE;
  throw badRequest(
    'datasets.file.purpose_unsupported',
    `'${String(value).slice(0, 50)}' is not a purpose that is supported here: use '${PURPOSE}'`,
    'purpose',
  );
}

function refusedField(name: string) {
  const shown = name.slice(0, 100);
  return badRequest('datasets.file.field_unsupported', `${shown} is not supported: send file and purpose`, shown);
}

function checkFilename(filename: string | undefined): string {
  const name = storableText(filename ?? '').trim();
  if (name === '' || name.length > MAX_FILENAME_CHARS) {
    const message = `the file needs a name of 1 to ${MAX_FILENAME_CHARS} characters`;
    throw badRequest('datasets.file.name_invalid', message, 'file');
  }
  return name;
}

function fileTooLarge(maxBytes: number) {
  return new AppError({
    code: 'datasets.file.too_large',
    status: 413,
    message: `The file is larger than ${maxBytes} bytes.`,
    field: 'file',
    retry: false,
  });
}
