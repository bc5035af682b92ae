import { type imageFields, MAX_IMAGE_BYTES, uploadFields, uploadFile } from '@tuneloop/contracts/ingest/http';
import { provenance } from '@tuneloop/contracts/ingest/events';
import { AppError } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute, type DetachedRequest } from '@tuneloop/runtime/http/mountRoute';
import { ValidationError } from '@tuneloop/runtime/http/validationError';
import { newId } from '@tuneloop/runtime/ids';
import { fileName } from '@tuneloop/contracts/ingest/http';
import type { z } from 'zod';
import type { IngestParts } from '../parts.ts';
import { PICTURE_REFUSED, type Picture, pictureTooLarge } from '../pictures.ts';
import type { ImageRow } from '../store/images.ts';
import { recordRejection } from '../usecases/reject.ts';
import { withBlob } from '../usecases/storeBlob.ts';
import { type ImageItem, storeImage } from '../usecases/storeImage.ts';
import { formContent, parseFields, type UploadForm } from './readForm.ts';

const FORM_LIMITS = { maxFileBytes: MAX_IMAGE_BYTES, tooLarge: pictureTooLarge };
/** Field names, boundaries and text fields beside the file. */
const FORM_OVERHEAD_BYTES = 10 * 1024 * 1024;
export const MAX_FORM_BYTES = MAX_IMAGE_BYTES + FORM_OVERHEAD_BYTES;

/** The scraper clients' upload. Its names are those of the edge function it stands in for. */
export function mountUpload(app: HttpApp, parts: IngestParts): void {
  const { ctx, addresses } = parts;
  mountRoute(
    app,
    ctx,
    uploadFile,
    async (request) =>
      receiveImage(parts, request, {
        fields: uploadFields,
        item: (fields, name) => ({
          ...UNSAID,
          fileName: checkedName(fields.fileName ?? name, 'fileName'),
          category: fields.category,
          userId: fields.user_id,
          metadata: fields.metadata,
        }),
        answer: (row) => {
          const { url } = addresses.address(row.project_id, row.id, ctx.config.UPLOAD_URL_SECONDS);
          return {
            success: true as const,
            url: `${addresses.origin(request.raw)}${url}`,
            path: row.path,
            imageId: row.id,
            dbStatus: 'success' as const,
            size: row.size,
            contentType: row.content_type,
          };
        },
      }),
    { transaction: false, maxBodyBytes: MAX_FORM_BYTES },
  );
}

/** Of an item of which nothing is said. */
export const UNSAID = {
  altText: null,
  category: undefined,
  userId: undefined,
  sessionId: null,
  provenance: provenance.parse({}),
  generate: undefined,
  intakeId: null,
} as const;

/** A picture's own name and the one it is given go by the same rule; without either it gets a plain one. */
export function checkedName(name: string | undefined, field: string): string {
  if (name === undefined) return 'picture';
  const result = fileName.safeParse(name);
  if (result.success) return result.data;
  const message = result.error.issues[0]?.message ?? 'is not valid';
  throw new ValidationError([{ field, message }], 'body');
}

export interface ImageUpload<S extends z.ZodType, A> {
  readonly fields: S;
  /** @param name the file's own, if it came with one */
  readonly item: (fields: z.output<S>, name: string | undefined) => ImageItem;
  readonly answer: (row: ImageRow) => A;
}

/** One uploaded picture from its form to its answer: everything is checked and measured before anything is stored. */
export async function receiveImage<S extends z.ZodType, A>(
  parts: IngestParts,
  request: DetachedRequest,
  upload: ImageUpload<S, A>,
): Promise<A> {
  const { ctx, forms } = parts;
  const form = await forms.read(request.raw, FORM_LIMITS);
  const item = upload.item(parseFields(upload.fields, form.fields), form.file.name);
  const picture = await readOrReject(parts, request, form, item);
  const id = newId();
  const attempt = { id, projectId: request.auth.projectId, bytes: picture.bytes, contentType: picture.contentType };
  return withBlob(ctx, attempt, (store) =>
    request.idempotent(async (tx) => {
      const row = await storeImage(tx, ctx, id, picture, item, store);
      ctx.faults.hit('ingest.before_upload_commit');
      return upload.answer(row);
    }, formContent(form)),
  );
}

async function readOrReject(
  parts: IngestParts,
  request: DetachedRequest,
  form: UploadForm,
  item: ImageItem,
): Promise<Picture> {
  try {
    return await parts.pictures.read(form.file.bytes);
  } catch (error) {
    if (error instanceof AppError && error.code.startsWith(PICTURE_REFUSED)) {
      const rejection = {
        id: newId(),
        kind: 'image',
        source: item.fileName,
        sessionId: item.sessionId,
        error,
      } as const;
      await request.tenant((tx) => recordRejection(tx, rejection));
    }
    throw error;
  }
}

export type ImageFields = z.output<typeof imageFields>;
