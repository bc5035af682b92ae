import type { FeedbackKind } from '@tuneloop/contracts/rewards/events';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { Rating } from '../domain/pairs.ts';

/** Ratings of one prompt (or of one rater on it) that are looked through for pairs: a prompt has a few pairs only. */
const MAX_RATINGS = 2_000;

interface RatingRow {
  readonly feedback_id: string;
  readonly response_id: string;
  readonly prompt_key: string;
  readonly kind: FeedbackKind;
  readonly score: number;
  readonly rater: string;
  readonly synthetic: boolean;
  readonly created_at: string | Date;
}

function toRating(row: RatingRow): Rating {
  return {
    feedbackId: row.feedback_id,
    responseId: row.response_id,
    promptKey: row.prompt_key,
    kind: row.kind,
    score: row.score,
    rater: row.rater,
    synthetic: row.synthetic,
    createdAt: new Date(row.created_at),
  };
}

const COLUMNS = 'feedback_id, response_id, prompt_key, kind, score, rater, synthetic, created_at';
/** Ratings that count, by raters who are known, good or bad enough to be one side of a pair. */
const PAIRABLE = `status = 'active' AND identified AND feedback_id IS NOT NULL AND (score >= $1 OR score <= $2)`;

export interface PairableScores {
  readonly chosenMin: number;
  readonly rejectedMax: number;
}

export async function findPairableRatings(
  tx: Tx,
  promptKeys: readonly string[],
  scores: PairableScores,
): Promise<Rating[]> {
  const rows = await tx.query<RatingRow>(
    `SELECT rating.* FROM unnest($3::uuid[]) AS wanted(key) CROSS JOIN LATERAL (
       SELECT ${COLUMNS} FROM rewards WHERE prompt_key = wanted.key AND ${PAIRABLE}
       ORDER BY kind, rater, feedback_id LIMIT $4) rating`,
    [scores.chosenMin, scores.rejectedMax, promptKeys, MAX_RATINGS],
  );
  return rows.map(toRating);
}

/** The latest feedback of a rating key, whatever became of it. */
export interface LatestRating {
  readonly rating_key: string;
  readonly id: string;
  readonly created_at: Date;
  readonly active: boolean;
}

/** One person's ratings of one kind on one prompt. */
export interface RaterGroup {
  readonly prompt_key: string;
  readonly kind: FeedbackKind;
  readonly rater: string;
}

export interface PresentPair {
  readonly id: string;
  readonly prompt_key: string;
}

export interface RatingState {
  readonly latest: readonly LatestRating[];
  /** Pairs that ratings of these prompts make at present. */
  readonly pairs: readonly PresentPair[];
  /** Ratings of the groups asked for and of those that the pairs are by. */
  readonly ratings: readonly Rating[];
}

interface RatingStateRow {
  readonly latest: readonly (Omit<LatestRating, 'created_at'> & { readonly created_at: string })[];
  readonly pairs: readonly PresentPair[];
  readonly ratings: readonly RatingRow[];
}

/**
 * All that decides what new ratings change, with one statement: the hot path. The prompts must be locked. What is asked
 * for comes as sets whose size the planner guesses alike for every call: so it keeps one plan instead of making a
 * new one each time. `rewards_rater` gives each group's ratings in order, whatever the planner knows of the tables.
 */
export async function readRatingState(
  tx: Tx,
  ratingKeys: readonly string[],
  groups: readonly RaterGroup[],
  scores: PairableScores,
): Promise<RatingState> {
  const row = await tx.one<RatingStateRow>(
    `WITH latest AS (
       SELECT l.* FROM jsonb_to_recordset($3::jsonb) AS wanted(rating_key uuid) CROSS JOIN LATERAL (
         SELECT rating_key, id, created_at, status = 'active' AS active FROM feedback
         WHERE rating_key = wanted.rating_key ORDER BY created_at DESC, id DESC LIMIT 1) l),
     asked AS MATERIALIZED (
       SELECT * FROM jsonb_to_recordset($4::jsonb) AS x(prompt_key uuid, kind text, rater text)),
     pairs AS MATERIALIZED (
       SELECT id, prompt_key, kind, rater FROM preferences
       WHERE prompt_key = ANY(ARRAY(SELECT prompt_key FROM asked)) AND source = 'ratings' AND status = 'active'),
     groups AS (SELECT * FROM asked UNION SELECT prompt_key, kind, rater FROM pairs),
     ratings AS (
       SELECT rating.* FROM groups CROSS JOIN LATERAL (
         SELECT ${COLUMNS} FROM rewards
         WHERE prompt_key = groups.prompt_key AND kind = groups.kind AND rater = groups.rater AND ${PAIRABLE}
         ORDER BY feedback_id LIMIT $5) rating)
     SELECT (SELECT coalesce(jsonb_agg(latest), '[]') FROM latest) AS latest,
       (SELECT coalesce(jsonb_agg(pairs), '[]') FROM pairs) AS pairs,
       (SELECT coalesce(jsonb_agg(ratings), '[]') FROM ratings) AS ratings`,
    [
      scores.chosenMin,
      scores.rejectedMax,
      JSON.stringify(ratingKeys.map((rating_key) => ({ rating_key }))),
      JSON.stringify(groups),
      MAX_RATINGS,
    ],
  );
  return {
    latest: row!.latest.map((item) => ({ ...item, created_at: new Date(item.created_at) })),
    pairs: row!.pairs,
    ratings: row!.ratings.map(toRating),
  };
}
