import type { ImageFacts, provenance } from '@tuneloop/contracts/ingest/events';
import type { imageQuery } from '@tuneloop/contracts/ingest/http';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { z } from 'zod';
import { hashBands, MAX_HASH_DISTANCE } from '../domain/perceptualHash.ts';

export interface ImageRow {
  readonly id: string;
  readonly project_id: string;
  readonly session_id: string | null;
  readonly intake_id: string | null;
  readonly user_id: string;
  readonly category: string;
  readonly alt_text: string | null;
  readonly file_name: string;
  readonly path: string;
  readonly blob_key: string;
  readonly sha256: string;
  readonly source_sha256: string;
  readonly content_type: string;
  readonly size: number;
  readonly quality: number;
  readonly facts: ImageFacts;
  readonly duplicate_of: string | null;
  readonly cluster_id: string;
  readonly metadata: Record<string, unknown>;
  readonly provenance: z.output<typeof provenance>;
  readonly generate: boolean;
  readonly created_at: Date;
}

const COLUMNS = `id, project_id, session_id, intake_id, user_id, category, alt_text, file_name, path, blob_key, sha256, source_sha256,
  content_type, size, quality, facts, duplicate_of, cluster_id, metadata, provenance, generate, created_at`;

/** Near-duplicate candidates read per band; a band that many pictures share is not read to its end. */
const MAX_BAND_ROWS = 2_000;
const MAX_CANDIDATES = 100;

export type NewImageRow = Omit<ImageRow, 'project_id' | 'created_at'> & {
  readonly dhash: bigint;
  readonly colour_grid: Uint8Array;
};

export async function insertImage(tx: Tx, row: NewImageRow): Promise<ImageRow> {
  const inserted = await tx.one<ImageRow>(
    `INSERT INTO images (id, project_id, session_id, intake_id, user_id, category, alt_text, file_name, path, blob_key, sha256,
       source_sha256, content_type, size, quality, facts, duplicate_of, cluster_id, metadata, provenance, generate,
       dhash, band0, band1, band2, band3, colour_grid)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
       $24, $25, $26, $27) RETURNING ${COLUMNS}`,
    [
      row.id,
      tx.projectId,
      row.session_id,
      row.intake_id,
      row.user_id,
      row.category,
      row.alt_text,
      row.file_name,
      row.path,
      row.blob_key,
      row.sha256,
      row.source_sha256,
      row.content_type,
      row.size,
      row.quality,
      JSON.stringify(row.facts),
      row.duplicate_of,
      row.cluster_id,
      JSON.stringify(row.metadata),
      JSON.stringify(row.provenance),
      row.generate,
      BigInt.asIntN(64, row.dhash).toString(),
      ...hashBands(row.dhash),
      Buffer.from(row.colour_grid),
    ],
  );
  if (!inserted) throw new Error('INSERT … RETURNING gave no row');
  return inserted;
}

export async function findImageById(tx: Tx, id: string): Promise<ImageRow | undefined> {
  return tx.one<ImageRow>(`SELECT ${COLUMNS} FROM images WHERE id = $1`, [id]);
}

/** The earliest picture that came as exactly these bytes. */
export async function findImageBySource(tx: Tx, sourceSha256: string): Promise<ImageRow | undefined> {
  return tx.one<ImageRow>(
    `SELECT ${COLUMNS} FROM images WHERE project_id = $1 AND source_sha256 = $2 ORDER BY id LIMIT 1`,
    [tx.projectId, sourceSha256],
  );
}

export interface NearDuplicate {
  readonly id: string;
  readonly cluster_id: string;
  readonly colour_grid: Buffer;
}

/**
 * Pictures whose hash differs in at most MAX_HASH_DISTANCE bits, nearest and then earliest first: one index look-up per
 * band of the hash, each bounded.
 */
export async function findNearDuplicates(tx: Tx, dhash: bigint): Promise<NearDuplicate[]> {
  const bandRows = [0, 1, 2, 3].map(
    (band) =>
      `(SELECT id, cluster_id, dhash, colour_grid FROM images WHERE project_id = $1 AND band${band} = $${band + 3}
        ORDER BY id LIMIT ${MAX_BAND_ROWS})`,
  );
  return tx.query<NearDuplicate>(
    `SELECT id, cluster_id, colour_grid FROM (
       SELECT DISTINCT ON (id) id, cluster_id, colour_grid, bit_count((dhash # $2::bigint)::bit(64)) AS distance
       FROM (${bandRows.join(' UNION ALL ')}) banded) candidates
     WHERE distance <= ${MAX_HASH_DISTANCE} ORDER BY distance, id LIMIT ${MAX_CANDIDATES}`,
    [tx.projectId, BigInt.asIntN(64, dhash).toString(), ...hashBands(dhash)],
  );
}

/** Which of these paths are taken. */
export async function findTakenPaths(tx: Tx, paths: readonly string[]): Promise<string[]> {
  const rows = await tx.query<{ path: string }>(
    'SELECT path FROM images WHERE project_id = $1 AND path = ANY($2::text[])',
    [tx.projectId, paths],
  );
  return rows.map((row) => row.path);
}

export type ImageFilter = Omit<z.output<typeof imageQuery>, 'limit' | 'cursor'>;

export async function listImages(
  tx: Tx,
  filter: ImageFilter,
  before: string | undefined,
  limit: number,
): Promise<ImageRow[]> {
  return tx.query<ImageRow>(
    `SELECT ${COLUMNS} FROM images
     WHERE project_id = $1 AND ($2::uuid IS NULL OR id < $2) AND ($4::uuid IS NULL OR session_id = $4)
       AND ($5::text IS NULL OR category = $5) AND ($6::text IS NULL OR user_id = $6)
       AND ($7::uuid IS NULL OR cluster_id = $7) AND ($8::boolean IS NULL OR (duplicate_of IS NOT NULL) = $8)
       AND ($9::float8 IS NULL OR quality >= $9)
     ORDER BY id DESC LIMIT $3`,
    [
      tx.projectId,
      before ?? null,
      limit,
      filter.session_id ?? null,
      filter.category ?? null,
      filter.user_id ?? null,
      filter.cluster_id ?? null,
      filter.duplicates ?? null,
      filter.min_quality ?? null,
    ],
  );
}

/** Takes the row away; gives what it was. */
export async function deleteImage(tx: Tx, id: string): Promise<ImageRow | undefined> {
  return tx.one<ImageRow>(`DELETE FROM images WHERE id = $1 RETURNING ${COLUMNS}`, [id]);
}

/** Nothing may point at a picture that is gone; its near-duplicates stay in their cluster. */
export async function forgetDuplicateOf(tx: Tx, id: string): Promise<void> {
  await tx.execute('UPDATE images SET duplicate_of = NULL WHERE duplicate_of = $1', [id]);
}

/** Serialises the search for near-duplicates in a project, so that two that arrive together do meet. */
export async function lockClusters(tx: Tx): Promise<void> {
  await tx.query(`SELECT pg_advisory_xact_lock(hashtextextended('ingest.clusters.' || $1::text, 0))`, [tx.projectId]);
}
