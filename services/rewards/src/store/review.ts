import type { ResponseRecord } from '@tuneloop/contracts/responses/events';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { ReviewAnswer } from '../domain/review.ts';

/** Of very many answers to one prompt only the newest are compared. */
const MAX_ANSWERS_COMPARED = 200;

export interface ReviewCandidate {
  readonly prompt_key: string;
  readonly image_id: string | null;
  readonly category: string | null;
  /** Items open to the reviewer, this one among them. */
  readonly remaining: number;
}

/** Notes prompts that were answered; with two distinct answers they can be compared. `stored`: what was news. */
export async function offerForReview(
  tx: Tx,
  records: readonly Pick<ResponseRecord, 'response_id' | 'image_id' | 'category'>[],
  stored: readonly { readonly id: string }[],
): Promise<void> {
  const news = new Set(stored.map((row) => row.id));
  const rows = records
    .filter((record) => news.has(record.response_id.toLowerCase()))
    .map((record) => ({ id: record.response_id, image_id: record.image_id, category: record.category }));
  if (rows.length === 0) return;
  await tx.execute(
    `INSERT INTO review_items (project_id, prompt_key, image_id, category, text_hash, comparable)
     SELECT $1, prompt_key, min(image_id::text)::uuid, min(category), min(text_hash), min(text_hash) <> max(text_hash)
     FROM (
       SELECT r.prompt_key, x.image_id, x.category, hashtextextended(btrim(r.response_text), 0) AS text_hash
       FROM jsonb_to_recordset($2::jsonb) AS x(id uuid, image_id uuid, category text) JOIN responses r USING (id)
       WHERE r.deleted_at IS NULL AND r.purpose IN ('candidate', 'production') AND btrim(r.response_text) <> '') answered
     GROUP BY prompt_key ORDER BY prompt_key
     ON CONFLICT (project_id, prompt_key) DO UPDATE SET
       comparable = review_items.comparable OR EXCLUDED.comparable OR review_items.text_hash <> EXCLUDED.text_hash,
       image_id = coalesce(review_items.image_id, EXCLUDED.image_id),
       category = coalesce(review_items.category, EXCLUDED.category)
     WHERE NOT review_items.comparable OR (review_items.image_id IS NULL AND EXCLUDED.image_id IS NOT NULL)`,
    [tx.projectId, JSON.stringify(rows)],
  );
}

/**
 * The item that has been judged least of those open to a reviewer, and how many are open; no more than `countTo` are
 * counted. What the reviewer has done is hashed once: items are then read in order, and the first that is open will do.
 */
export async function findNextReview(
  tx: Tx,
  reviewer: string,
  excluded: readonly string[],
  countTo: number,
): Promise<ReviewCandidate | undefined> {
  return tx.one<ReviewCandidate>(
    `WITH done AS MATERIALIZED (
       SELECT prompt_key FROM review_skips WHERE reviewer = $1
       UNION ALL
       SELECT r.prompt_key FROM feedback f JOIN responses r ON r.project_id = f.project_id AND r.id = f.response_id
       WHERE f.user_id = $1 AND f.kind = 'ab' AND f.status = 'active'
       UNION ALL
       SELECT unnest($2::uuid[]))
     SELECT prompt_key, image_id, category,
       (SELECT count(*)::int FROM (
          SELECT 1 FROM review_items WHERE comparable AND prompt_key NOT IN (SELECT prompt_key FROM done) LIMIT $3) open
       ) AS remaining
     FROM review_items WHERE comparable AND prompt_key NOT IN (SELECT prompt_key FROM done)
     ORDER BY judged, prompt_key LIMIT 1`,
    [reviewer, excluded, countTo],
  );
}

/** Answers to one prompt that people may compare, newest first. */
export async function listAnswersToCompare(tx: Tx, promptKey: string): Promise<ReviewAnswer[]> {
  return tx.query<ReviewAnswer>(
    `SELECT id, prompt, response_text AS text FROM responses
     WHERE prompt_key = $1 AND deleted_at IS NULL AND purpose IN ('candidate', 'production')
       AND btrim(response_text) <> ''
     ORDER BY created_at DESC, id LIMIT $2`,
    [promptKey, MAX_ANSWERS_COMPARED],
  );
}

/** Holds an item until the transaction ends: no answer is added to it meanwhile. */
export async function lockReviewItem(tx: Tx, promptKey: string): Promise<void> {
  await tx.execute('SELECT 1 FROM review_items WHERE prompt_key = $1 FOR UPDATE', [promptKey]);
}

/** There are no two answers any more; the next one that differs from the one left brings the item back. */
export async function retireReviewItem(tx: Tx, promptKey: string, textLeft: string): Promise<void> {
  await tx.execute(
    `UPDATE review_items SET comparable = false, text_hash = hashtextextended(btrim($2::text), 0) WHERE prompt_key = $1`,
    [promptKey, textLeft],
  );
}

/** Whether there was such an item to skip. Skipping twice is skipping once. */
export async function insertReviewSkip(tx: Tx, reviewer: string, promptKey: string): Promise<boolean> {
  const rows = await tx.query(
    `INSERT INTO review_skips (project_id, reviewer, prompt_key)
     SELECT project_id, $1, prompt_key FROM review_items WHERE prompt_key = $2
     ON CONFLICT (project_id, reviewer, prompt_key) DO UPDATE SET skipped_at = now() RETURNING 1`,
    [reviewer, promptKey],
  );
  return rows.length > 0;
}

export async function deleteReviewSkip(tx: Tx, reviewer: string, promptKey: string): Promise<void> {
  await tx.execute('DELETE FROM review_skips WHERE reviewer = $1 AND prompt_key = $2', [reviewer, promptKey]);
}
