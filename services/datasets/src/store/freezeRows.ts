import type { DatasetSpec } from '@tuneloop/contracts/datasets/events';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { beginVersion } from './versions.ts';

export type FeedbackKindOfDataset = 'sft' | 'dpo';

/** Why a candidate did not become an example. */
export interface SkippedCandidates {
  reason: 'empty_answer' | 'same_answers' | 'other_prompt' | 'over_cap' | 'incomplete';
  count: number;
  examples: string[];
}

/** A pair that people stated has no margin and goes before any that was computed from two scores (at most 2 apart). */
const STATED_MARGIN = 2;
const MAX_NAMED = 10;
/** For each sort and join of the one statement; a million candidates then sort with few passes over the disk. */
const WORK_MEM = '64MB';

/** Answers that can be learnt from: of the slot, alive, not made by an evaluation nor about an erased picture. */
const USABLE = `usable AS NOT MATERIALIZED (
  SELECT * FROM responses r WHERE slot = $3 AND deleted_at IS NULL AND purpose <> 'evaluation'
    AND NOT EXISTS (SELECT 1 FROM tombstones t WHERE t.kind = 'image' AND t.id = r.image_id)
)`;

/** What a text is compared and sorted by: the sorts then carry numbers, not texts. */
const hashOf = (text: string): string => `hashtextextended(${text}, 0)`;
const isBlank = (text: string): string => `${text} !~ '\\S'`;

/** Pairs: chosen over rejected, as preferences say. $4 since, $5 synthetic too, $6 cap, $7 least margin. */
const DPO_CANDIDATES = `candidates AS (
  SELECT p.id, c.id AS chosen_id, r.id AS rejected_id, p.id AS correction_id, c.prompt_key,
    coalesce(p.margin, ${STATED_MARGIN})::numeric AS rank, p.feedback_ids,
    ${hashOf('coalesce(p.chosen_text, c.answer)')} AS chosen_hash, ${hashOf('r.answer')} AS rejected_hash,
    CASE
      WHEN NOT (c.complete AND r.complete) THEN 'incomplete'
      WHEN c.prompt_key <> r.prompt_key THEN 'other_prompt'
      WHEN ${isBlank('coalesce(p.chosen_text, c.answer)')} OR ${isBlank('r.answer')} THEN 'empty_answer'
      WHEN coalesce(p.chosen_text, c.answer) = r.answer THEN 'same_answers'
    END AS fault
  FROM preferences p
  JOIN usable c ON c.id = p.chosen_response_id
  JOIN usable r ON r.id = p.rejected_response_id
  WHERE NOT p.retracted AND ($4::timestamptz IS NULL OR p.created_at >= $4) AND ($5 OR NOT p.synthetic)
    AND (p.margin IS NULL OR p.margin >= $7)
)`;

/**
 * Answers that were rated well enough, and corrections in the place of what they correct. $4 since, $5 synthetic too,
 * $6 cap, $7 least mean score. Means are exact: a sum of doubles would depend on its order.
 */
const SFT_CANDIDATES = `scored AS (
  SELECT response_id, avg(score::numeric) AS score,
    coalesce(array_agg(feedback_id ORDER BY feedback_id) FILTER (WHERE feedback_id IS NOT NULL), '{}') AS feedback_ids
  FROM rewards
  WHERE NOT retracted AND ($4::timestamptz IS NULL OR created_at >= $4) AND ($5 OR NOT synthetic)
  GROUP BY response_id HAVING avg(score::numeric) >= $7::numeric
), corrections AS (
  SELECT * FROM preferences
  WHERE NOT retracted AND source = 'correction' AND ($4::timestamptz IS NULL OR created_at >= $4)
    AND ($5 OR NOT synthetic)
), answers AS (
  SELECT s.response_id AS id, s.response_id, NULL::uuid AS correction_id, NULL::text AS correction, s.score, s.feedback_ids
  FROM scored s
  WHERE NOT EXISTS (SELECT 1 FROM corrections k WHERE k.rejected_response_id = s.response_id)
  UNION ALL
  SELECT k.id, k.rejected_response_id, k.id, k.chosen_text, 1, k.feedback_ids FROM corrections k
), candidates AS (
  SELECT a.id, r.id AS chosen_id, NULL::uuid AS rejected_id, a.correction_id, r.prompt_key, a.score AS rank,
    a.feedback_ids, ${hashOf('coalesce(a.correction, r.answer)')} AS chosen_hash, 0::bigint AS rejected_hash,
    CASE
      WHEN NOT r.complete THEN 'incomplete'
      WHEN ${isBlank('coalesce(a.correction, r.answer)')} THEN 'empty_answer'
    END AS fault
  FROM answers a JOIN usable r ON r.id = a.response_id
)`;

/**
 * Of each prompt the first $6 are taken: texts not taken yet before repetitions, then by rank, then by id. Examples
 * and test prompts come from one statement, so that they see the groups' splits at one moment.
 */
const freezeStatement = (candidates: string): string => `
WITH ${USABLE}, ${candidates}, unlike AS (
  SELECT *, row_number() OVER (
    PARTITION BY fault IS NULL, prompt_key, chosen_hash, rejected_hash ORDER BY rank DESC, id) AS repetition
  FROM candidates
), ranked AS MATERIALIZED (
  SELECT id, chosen_id, rejected_id, correction_id, feedback_ids, CASE WHEN fault IS NULL AND row_number() OVER (
    PARTITION BY fault IS NULL, prompt_key ORDER BY repetition, rank DESC, id) > $6
    THEN 'over_cap' ELSE fault END AS skipped
  FROM unlike
), placed AS (
  SELECT e.*, g.split, g.root, row_number() OVER (PARTITION BY g.split ORDER BY g.root, e.id) AS ordinal
  FROM ranked e
  JOIN responses c ON c.id = e.chosen_id
  JOIN group_splits g ON g.group_key = c.group_key
  WHERE e.skipped IS NULL
), lines AS (
  SELECT e.id, e.split, e.root, e.ordinal, c.prompt_link, jsonb_build_object(
    'id', e.id, 'split', e.split, 'group_key', e.root, 'messages', c.context,
    'chosen', coalesce(p.chosen_text, c.answer), 'rejected', r.answer, 'facts', c.facts, 'weight', 1,
    'lineage', jsonb_build_object('feedback_ids', to_jsonb(e.feedback_ids), 'image_id', c.image_id, 'response_ids',
      CASE WHEN e.rejected_id IS NULL OR e.rejected_id = e.chosen_id THEN jsonb_build_array(e.chosen_id)
        ELSE jsonb_build_array(e.chosen_id, e.rejected_id) END)) AS example
  FROM placed e
  JOIN responses c ON c.id = e.chosen_id
  LEFT JOIN responses r ON r.id = e.rejected_id
  LEFT JOIN preferences p ON p.id = e.correction_id
), examples AS (
  INSERT INTO version_examples (project_id, version_id, split, ordinal, id, group_key, prompt_link, example, line_hash)
  SELECT $1, $2, split, ordinal, id, root, prompt_link, example, sha256(convert_to(example::text, 'UTF8'))
  FROM lines
), prompts AS (
  SELECT DISTINCT ON (g.root) g.root, u.id, u.context, u.facts, u.image_id
  FROM usable u JOIN group_splits g ON g.group_key = u.group_key
  WHERE g.split = 'test' AND u.complete
  ORDER BY g.root, u.created_at, u.id
), test_prompts AS (
  INSERT INTO version_test_prompts (project_id, version_id, ordinal, group_key, prompt)
  SELECT $1, $2, row_number() OVER (ORDER BY root), root,
    jsonb_build_object('group_key', root, 'messages', context, 'facts', facts, 'image_id', image_id)
  FROM prompts
)
SELECT skipped AS reason, count(*)::int AS count, (array_agg(id::text ORDER BY id))[1:${MAX_NAMED}] AS examples
FROM ranked WHERE skipped IS NOT NULL GROUP BY skipped ORDER BY skipped`;

const STATEMENTS: Readonly<Record<FeedbackKindOfDataset, string>> = {
  dpo: freezeStatement(DPO_CANDIDATES),
  sft: freezeStatement(SFT_CANDIDATES),
};

/**
 * Writes the rows of a new version, in the database and with one statement. The same feedback gives the same rows in
 * the same order. Returns what was left out, by reason.
 */
export async function freezeRows(
  tx: Tx,
  versionId: string,
  kind: FeedbackKindOfDataset,
  spec: DatasetSpec,
): Promise<SkippedCandidates[]> {
  await beginVersion(tx, versionId);
  await tx.query(`SELECT set_config('work_mem', $1, true)`, [WORK_MEM]);
  return tx.query<SkippedCandidates>(STATEMENTS[kind], [
    tx.projectId,
    versionId,
    spec.slot,
    spec.since ?? null,
    spec.include_synthetic,
    spec.max_pairs_per_prompt,
    kind === 'dpo' ? spec.min_margin : spec.min_score,
  ]);
}
