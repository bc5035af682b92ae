import { imageUploaded, type provenance } from '@tuneloop/contracts/ingest/events';
import type { BlobRef } from '@tuneloop/runtime/blobs/blobStore';
import { AppError } from '@tuneloop/runtime/errors';
import { deterministicId } from '@tuneloop/runtime/ids';
import { emit } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { projectSettings } from '@tuneloop/runtime/projects';
import type { z } from 'zod';
import type { IngestContext } from '../config.ts';
import { storagePath } from '../domain/naming.ts';
import { similarColours } from '../domain/perceptualHash.ts';
import type { Picture } from '../pictures.ts';
import {
  findImageBySource,
  findNearDuplicates,
  findTakenPaths,
  type ImageRow,
  insertImage,
  lockClusters,
} from '../store/images.ts';
import { findSessionById, type SessionRow } from '../store/sessions.ts';

/** Names given in one millisecond that are tried before giving up. */
const PATH_TRIES = 100;

/** What is said of a picture; what is left out comes from its session, then from the project. */
export interface ImageItem {
  readonly fileName: string;
  readonly category: string | undefined;
  readonly altText: string | null;
  readonly userId: string | undefined;
  readonly sessionId: string | null;
  readonly metadata: Record<string, unknown>;
  readonly provenance: z.output<typeof provenance>;
  readonly generate: boolean | undefined;
  readonly intakeId: string | null;
}

/** Records a picture whose blob is stored in this transaction, links it to its near-duplicates, and tells of it. */
export async function storeImage(
  tx: Tx,
  ctx: IngestContext,
  id: string,
  picture: Picture,
  item: ImageItem,
  store: (tx: Tx) => Promise<BlobRef>,
): Promise<ImageRow> {
  const session = item.sessionId === null ? undefined : await sessionOf(tx, item.sessionId);
  const settings = await projectSettings(tx, ctx);
  const stored = await store(tx);
  // From here to the commit one picture of the project at a time; storing the blob, the slow part, is done.
  await lockClusters(tx);
  const earlier = await findEarlier(tx, picture);
  const category = item.category ?? session?.category ?? 'general';
  const row = await insertImage(tx, {
    id,
    session_id: item.sessionId,
    intake_id: item.intakeId,
    user_id: item.userId ?? session?.user_id ?? settings.default_user_id,
    category,
    alt_text: item.altText,
    file_name: item.fileName,
    path: await freePath(tx, category, ctx.clock().getTime(), item.fileName),
    blob_key: stored.key,
    sha256: stored.sha256,
    source_sha256: picture.sourceSha256,
    content_type: picture.contentType,
    size: stored.size,
    quality: picture.quality,
    facts: picture.facts,
    duplicate_of: earlier?.id ?? null,
    // Made from the first picture's bytes, not from its id: the permanent splits come out the same on every machine.
    cluster_id: earlier?.cluster_id ?? deterministicId('image-cluster', tx.projectId ?? '', picture.sourceSha256),
    metadata: item.metadata,
    provenance: withSession(item.provenance, session),
    generate: item.generate ?? session?.generate ?? settings.auto_process,
    dhash: picture.dhash,
    colour_grid: picture.colourGrid,
  });
  await emit(tx, imageUploaded, { subject: id, aggregateVersion: 1, data: toUploaded(row) });
  return row;
}

async function findEarlier(tx: Tx, picture: Picture): Promise<{ id: string; cluster_id: string } | undefined> {
  const same = await findImageBySource(tx, picture.sourceSha256);
  if (same) return same;
  const near = await findNearDuplicates(tx, picture.dhash);
  return near.find((candidate) => similarColours(candidate.colour_grid, picture.colourGrid));
}

export async function sessionOf(tx: Tx, sessionId: string): Promise<SessionRow> {
  const session = await findSessionById(tx, sessionId);
  if (session) return session;
  throw new AppError({
    code: 'ingest.session.not_found',
    status: 404,
    message: `session_id: there is no session ${sessionId}; open one by POST /api/v1/sessions`,
    field: 'session_id',
    retry: false,
  });
}

/** What is not said of an item is said by its session. */
export function withSession(
  own: z.output<typeof provenance>,
  session: SessionRow | undefined,
): z.output<typeof provenance> {
  return {
    source_url: own.source_url ?? session?.url ?? null,
    collected_at: own.collected_at,
    licence: own.licence ?? session?.licence ?? null,
    consent: own.consent ?? session?.consent ?? null,
  };
}

/** Two files of one name in one millisecond: the later one's stamp moves on. Safe under the cluster lock. */
async function freePath(tx: Tx, category: string, atMs: number, fileName: string): Promise<string> {
  const wanted = Array.from({ length: PATH_TRIES }, (_, i) => storagePath(category, atMs + i, fileName));
  const taken = new Set(await findTakenPaths(tx, wanted));
  const free = wanted.find((path) => !taken.has(path));
  if (free !== undefined) return free;
  throw new AppError({
    code: 'ingest.image.path_taken',
    status: 503,
    message: 'Too many files of this name at once. Try again in a moment.',
    retry: true,
    field: 'file_name',
  });
}

function toUploaded(row: ImageRow): z.input<typeof imageUploaded.schema> {
  return {
    image_id: row.id,
    session_id: row.session_id,
    user_id: row.user_id,
    category: row.category,
    alt_text: row.alt_text,
    blob_key: row.blob_key,
    sha256: row.sha256,
    content_type: row.content_type,
    size: row.size,
    quality: row.quality,
    facts: row.facts,
    duplicate_of: row.duplicate_of,
    cluster_id: row.cluster_id,
    metadata: row.metadata as z.input<typeof imageUploaded.schema>['metadata'],
    provenance: row.provenance,
    generate: row.generate,
  };
}
