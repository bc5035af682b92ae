import {
  createImage,
  deleteImage,
  getImage,
  getImageContent,
  type Image,
  imageFields,
  listImages,
  viewImage,
} from '@tuneloop/contracts/ingest/http';
import { notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { etagOf, notModified } from '@tuneloop/runtime/http/etag';
import { type DetachedRequest, mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { Readable } from 'node:stream';
import type { IngestParts } from '../parts.ts';
import * as store from '../store/images.ts';
import { eraseImage } from '../usecases/eraseItem.ts';
import { idCursor, nextCursor } from './cursor.ts';
import type { ImageAddresses } from './imageAddress.ts';
import { checkedName, MAX_FORM_BYTES, receiveImage, UNSAID } from './upload.ts';

/** A picture never changes under its id. */
const CACHE_SECONDS = 3_600;

export function mountImages(app: HttpApp, parts: IngestParts): void {
  const { ctx, addresses, sweeper } = parts;

  mountRoute(
    app,
    ctx,
    createImage,
    async (request) =>
      receiveImage(parts, request, {
        fields: imageFields,
        item: (fields, name) => ({
          ...UNSAID,
          fileName: checkedName(fields.file_name ?? name, fields.file_name === undefined ? 'file' : 'file_name'),
          category: fields.category,
          altText: fields.alt_text ?? null,
          userId: fields.user_id,
          sessionId: fields.session_id ?? null,
          metadata: fields.metadata,
          generate: fields.generate,
          provenance: {
            source_url: fields.source_url ?? null,
            collected_at: fields.collected_at ?? null,
            licence: fields.licence ?? null,
            consent: fields.consent ?? null,
          },
        }),
        answer: (row) => toImage(row, addresses),
      }),
    { transaction: false, maxBodyBytes: MAX_FORM_BYTES },
  );

  mountRoute(app, ctx, listImages, async ({ query, tx }) => {
    const { limit, cursor, ...filter } = query;
    const rows = await store.listImages(tx, filter, idCursor(cursor), limit);
    return { data: rows.map((row) => toImage(row, addresses)), next_cursor: nextCursor(rows, limit) };
  });

  mountRoute(app, ctx, getImage, async ({ params, tx }) => {
    const row = await store.findImageById(tx, params.id);
    if (!row) throw imageNotFound(params.id);
    return toImage(row, addresses);
  });

  mountRoute(app, ctx, deleteImage, async ({ params, auth, tx }) => {
    if (!(await eraseImage(tx, params.id, auth.actor, ctx.clock()))) throw imageNotFound(params.id);
    tx.afterCommit(() => sweeper.wake());
    return { id: params.id, erased: true };
  });

  mountRoute(
    app,
    ctx,
    getImageContent,
    async (request) => {
      const row = await request.tenant((tx) => store.findImageById(tx, request.params.id));
      return sendImage(parts, request, row);
    },
    { transaction: false },
  );

  mountRoute(
    app,
    ctx,
    viewImage,
    async (request) => {
      const { id } = request.params;
      const projectId = addresses.projectOf(id, request.query.token);
      const row = await ctx.pg.withTenant(projectId, (tx) => store.findImageById(tx, id), { actor: 'image-address' });
      return sendImage(parts, request, row);
    },
    { transaction: false },
  );
}

/** The stored bytes with headers that make them nothing but a picture, whatever a browser would like to see in them. */
async function sendImage(
  { ctx }: IngestParts,
  request: Pick<DetachedRequest, 'raw' | 'reply'>,
  row: store.ImageRow | undefined,
): Promise<Readable | undefined> {
  if (!row) throw imageNotFound((request.raw.params as { id: string }).id);
  const { reply } = request;
  void reply
    .header('cache-control', `private, max-age=${CACHE_SECONDS}`)
    .header('content-security-policy', "default-src 'none'; sandbox")
    .header('x-content-type-options', 'nosniff')
    .header('cross-origin-resource-policy', 'cross-origin')
    .header('content-disposition', `inline; filename*=UTF-8''${encodeURIComponent(row.file_name)}`);
  if (notModified(request.raw, reply, etagOf(row.sha256))) return undefined;
  const content = await ctx.blobs.get(row.blob_key);
  void reply.type(row.content_type).header('content-length', row.size);
  return content;
}

function imageNotFound(id: string) {
  return notFound('ingest.image.not_found', `There is no image ${id}`);
}

function toImage(row: store.ImageRow, addresses: ImageAddresses): Image {
  const { url, expiresAt } = addresses.address(row.project_id, row.id);
  return {
    id: row.id,
    session_id: row.session_id,
    user_id: row.user_id,
    category: row.category,
    alt_text: row.alt_text,
    file_name: row.file_name,
    path: row.path,
    content_url: url,
    content_url_expires_at: expiresAt.toISOString(),
    content_type: row.content_type,
    size: row.size,
    sha256: row.sha256,
    quality: row.quality,
    facts: row.facts,
    is_duplicate: row.duplicate_of !== null,
    duplicate_of: row.duplicate_of,
    cluster_id: row.cluster_id,
    metadata: row.metadata as Image['metadata'],
    provenance: row.provenance,
    generate: row.generate,
    created_at: row.created_at.toISOString(),
  };
}
