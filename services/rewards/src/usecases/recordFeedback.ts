import type { feedbackOutcome, FeedbackInput } from '@tuneloop/contracts/rewards/http';
import { AppError, badRequest } from '@tuneloop/runtime/errors';
import { newId } from '@tuneloop/runtime/ids';
import { emitAll, type PendingEvent } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { ProjectSettings } from '@tuneloop/runtime/projects';
import type { z } from 'zod';
import { checkSize, responseNotFound, type Succession, succeed } from '../domain/feedback.ts';
import { statedPreferenceId } from '../domain/preference.ts';
import { ANONYMOUS_USER, isSomebody, type Rater, ratingKey } from '../domain/rater.ts';
import { type FeedbackRules, rulesOf } from '../domain/rules.ts';
import { judge } from '../domain/score.ts';
import { type FeedbackRow, insertFeedback, supersedeFeedback } from '../store/feedback.ts';
import { type PreferenceRow, retractPreferences, upsertPreferences } from '../store/preferences.ts';
import type { KnownResponse } from '../store/responses.ts';
import { readRatingState, type RatingState } from '../store/ratings.ts';
import { retractRewardsOfFeedback, type RewardRow } from '../store/rewards.ts';
import {
  announceFeedback,
  announcePreference,
  announcePreferenceRetracted,
  announceReward,
  announceRewardRetracted,
} from './announce.ts';
import { type Accepted, isRating, ratingOf, rewardOf, statedPreference } from './consequences.ts';
import { otherRefOf, refKey, refOf, type ResolvedResponses, resolveResponses } from './resolveResponses.ts';
import { pairableScores, settleChange, type SettledPairs } from './settlePairs.ts';

type FeedbackOutcome = z.output<typeof feedbackOutcome>;

export interface FeedbackCommand {
  readonly input: FeedbackInput;
  readonly rater: Rater;
  readonly saidAt: Date;
}

export type FeedbackResult =
  | { readonly outcome: FeedbackOutcome; readonly error?: undefined }
  | { readonly outcome?: undefined; readonly error: AppError };

/**
 * Takes feedback, each piece by itself: one that cannot be taken is answered with its error and leaves nothing.
 * Raw feedback, rewards, preferences and their events commit together.
 *
 * @param absent `refKey`s of answers that their owner does not know
 * @throws NotProjectedYet before anything is written
 */
export async function recordFeedback(
  tx: Tx,
  commands: readonly FeedbackCommand[],
  absent: ReadonlySet<string>,
): Promise<FeedbackResult[]> {
  const refs = commands.flatMap(({ input }) => [refOf(input), otherRefOf(input)].filter((ref) => ref !== null));
  const lockPrompts = commands.some(({ rater }) => rater.known);
  const resolved = await resolveResponses(tx, refs, { absent, lockPrompts });
  const rules = rulesOf(resolved.settings?.feedback);
  const drafts = commands.map((command) => attempt(() => accept(tx, command, resolved, rules)));
  const accepted = drafts.filter((draft): draft is Accepted => !(draft instanceof AppError));
  const outcomes = accepted.length === 0 ? [] : await store(tx, accepted, rules);
  return drafts.map((draft) => {
    if (draft instanceof AppError) return { error: draft };
    return { outcome: outcomes[accepted.indexOf(draft)]! };
  });
}

function attempt<T>(work: () => T): T | AppError {
  try {
    return work();
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
}

function accept(
  tx: Tx,
  { input, rater, saidAt }: FeedbackCommand,
  resolved: ResolvedResponses,
  rules: FeedbackRules,
): Accepted {
  const response = resolved.byRef.get(refKey(refOf(input)));
  if (!response) throw responseNotFound(input.response_id === undefined ? 'completion_id' : 'response_id');
  const other = otherSide(input, response, resolved);
  checkSize(input);
  const judgement = judge(input, rules.dimensionWeights);
  const { userId, known } = person(rater, resolved.settings);
  const answers = other ? [response.id, other.id] : [response.id];
  const row: FeedbackRow = {
    id: newId(),
    kind: input.kind,
    response_id: response.id,
    other_response_id: other?.id ?? null,
    user_id: userId,
    submitted_by: tx.actor,
    rating_key: known ? ratingKey(input.kind, userId, answers, judgement.score) : null,
    brand: input.brand ?? response.brand,
    task: input.task ?? response.task,
    session_id: input.session_id ?? null,
    synthetic: input.synthetic,
    value: judgement.value,
    comment: input.comment ?? null,
    score: judgement.score,
    status: 'active',
    superseded_by: null,
    metadata: input.metadata ?? null,
    created_at: saidAt,
  };
  return { row, judgement, response, other, known };
}

/** The project's default user stands for nobody in particular. */
function person(rater: Rater, settings: ProjectSettings | null): { userId: string; known: boolean } {
  const nobody = settings?.default_user_id ?? ANONYMOUS_USER;
  const userId = rater.userId ?? nobody;
  return { userId, known: rater.known && isSomebody(userId) && userId !== nobody };
}

function otherSide(input: FeedbackInput, response: KnownResponse, resolved: ResolvedResponses): KnownResponse | null {
  const ref = otherRefOf(input);
  if (ref === null) return null;
  const field = 'responseId' in ref ? 'other_response_id' : 'other_completion_id';
  const other = resolved.byRef.get(refKey(ref));
  if (!other) throw responseNotFound(field);
  if (other.id === response.id) {
    throw badRequest('rewards.comparison.same_response', `${field} names the same answer twice: give another`, field);
  }
  if (other.prompt_key !== response.prompt_key) {
    throw badRequest(
      'rewards.comparison.other_prompt',
      `${field} names an answer to another prompt: compare answers to one prompt`,
      field,
    );
  }
  return other;
}

async function store(tx: Tx, accepted: readonly Accepted[], rules: FeedbackRules): Promise<FeedbackOutcome[]> {
  const state = await readState(tx, accepted, rules);
  const succession = succeed(
    accepted.map(({ row }) => ({ id: row.id, ratingKey: row.rating_key, saidAt: row.created_at })),
    state.latest,
  );
  const items = accepted.map((item) => withSuccessor(item, succession));
  const counting = items.filter(({ row }) => row.status === 'active');
  const retractions = await supersede(tx, succession);
  const rewards = counting.flatMap((item) => rewardOf(item) ?? []);
  await insertFeedback(
    tx,
    items.map(({ row }) => row),
    rewards,
  );
  const stated = await recordStated(tx, counting);
  const change = { removed: new Set(succession.supersedes.values()), added: rewards.filter(isRating).map(ratingOf) };
  const settled = await settleChange(tx, state, change, rules);
  await emitAll(tx, [
    ...items.map(({ row }) => announceFeedback(row, succession.supersedes.get(row.id) ?? null)),
    ...retractions,
    ...rewards.map(announceReward),
    ...stated.map(announcePreference),
    ...settled.events,
  ]);
  return outcomesOf(items, succession, rewards, stated, settled);
}

/** Only what people who are known say can replace earlier feedback or make pairs. */
async function readState(tx: Tx, accepted: readonly Accepted[], rules: FeedbackRules): Promise<RatingState> {
  const keys = accepted.flatMap(({ row }) => (row.rating_key === null ? [] : [row.rating_key]));
  if (keys.length === 0) return { latest: [], pairs: [], ratings: [] };
  const groups = accepted
    .filter(({ known, judgement }) => known && judgement.score !== null)
    .map(({ row, response }) => ({ prompt_key: response.prompt_key, kind: row.kind, rater: row.user_id }));
  return readRatingState(tx, [...new Set(keys)], groups, pairableScores(rules));
}

function withSuccessor(item: Accepted, succession: Succession): Accepted {
  const superseded_by = succession.supersededBy.get(item.row.id) ?? null;
  return superseded_by === null ? item : { ...item, row: { ...item.row, status: 'superseded', superseded_by } };
}

/** Stored feedback that was replaced stops counting, and so does what was made of it. */
async function supersede(tx: Tx, { supersedes }: Succession): Promise<PendingEvent[]> {
  if (supersedes.size === 0) return [];
  const replaced = [...supersedes.values()];
  await supersedeFeedback(
    tx,
    [...supersedes].map(([superseded_by, id]) => ({ id, superseded_by })),
  );
  const rewards = await retractRewardsOfFeedback(tx, replaced, 'superseded');
  const preferences = await retractPreferences(tx, replaced.map(statedPreferenceId), 'superseded');
  return [
    ...rewards.map((row) => announceRewardRetracted(row, 'superseded')),
    ...preferences.map((row) => announcePreferenceRetracted(row, 'superseded')),
  ];
}

async function recordStated(tx: Tx, items: readonly Accepted[]): Promise<PreferenceRow[]> {
  const rows = items.flatMap((item) => statedPreference(item) ?? []);
  return rows.length === 0 ? [] : upsertPreferences(tx, rows);
}

function outcomesOf(
  items: readonly Accepted[],
  succession: Succession,
  rewards: readonly RewardRow[],
  stated: readonly PreferenceRow[],
  settled: SettledPairs,
): FeedbackOutcome[] {
  const rewardIds = new Map(rewards.map((row) => [row.feedback_id, row.id]));
  const preferenceIds = new Map<string, string[]>();
  for (const row of [...stated, ...settled.recorded]) {
    for (const id of row.feedback_ids) preferenceIds.set(id, [...(preferenceIds.get(id) ?? []), row.id]);
  }
  return items.map(({ row }) => ({
    ...feedbackOnWire(row),
    supersedes: succession.supersedes.get(row.id) ?? null,
    reward_id: rewardIds.get(row.id) ?? null,
    preference_ids: preferenceIds.get(row.id) ?? [],
  }));
}

/** Feedback as the lists tell it. */
export function feedbackOnWire(row: FeedbackRow): Omit<FeedbackOutcome, 'supersedes' | 'reward_id' | 'preference_ids'> {
  return {
    id: row.id,
    kind: row.kind,
    response_id: row.response_id,
    other_response_id: row.other_response_id,
    user_id: row.user_id,
    brand: row.brand,
    task: row.task,
    session_id: row.session_id,
    synthetic: row.synthetic,
    value: row.value,
    comment: row.comment,
    score: row.score,
    status: row.status,
    superseded_by: row.superseded_by,
    metadata: row.metadata,
    created_at: row.created_at.toISOString(),
  };
}
