import type { PendingEvent } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { pairChanged, pairRatings, type RatedPair, type Rating } from '../domain/pairs.ts';
import { ratedPreferenceId } from '../domain/preference.ts';
import type { FeedbackRules } from '../domain/rules.ts';
import { findRatedPairIds, type PreferenceRow, retractPreferences, upsertPreferences } from '../store/preferences.ts';
import { findPairableRatings, type PairableScores, type RatingState } from '../store/ratings.ts';
import { announcePreference, announcePreferenceRetracted } from './announce.ts';

export interface SettledPairs {
  readonly recorded: readonly PreferenceRow[];
  readonly events: readonly PendingEvent[];
}

const NOTHING: SettledPairs = { recorded: [], events: [] };

export function pairableScores(rules: FeedbackRules): PairableScores {
  return { chosenMin: rules.chosenMinScore, rejectedMax: rules.rejectedMaxScore };
}

/** Brings the preferences made of ratings in line with the ratings that count now. The prompts must be locked. */
export async function settlePrompts(
  tx: Tx,
  promptKeys: readonly string[],
  rules: FeedbackRules,
): Promise<SettledPairs> {
  if (promptKeys.length === 0) return NOTHING;
  const ratings = await findPairableRatings(tx, promptKeys, pairableScores(rules));
  return apply(tx, await findRatedPairIds(tx, promptKeys), pairRatings(ratings, rules));
}

export interface RatingChange {
  /** Feedback ids of ratings that stopped counting since the state was read. */
  readonly removed: ReadonlySet<string>;
  /** Ratings that count from now on, not stored yet. */
  readonly added: readonly Rating[];
}

/**
 * As `settlePrompts`, from the ratings of the few raters in `state`: what one more rating costs does not grow with the
 * ratings that its prompt has. Where these are not enough, the prompt is looked at whole.
 */
export async function settleChange(
  tx: Tx,
  state: RatingState,
  change: RatingChange,
  rules: FeedbackRules,
): Promise<SettledPairs> {
  const kept = state.ratings.filter((rating) => !change.removed.has(rating.feedbackId));
  const before = Map.groupBy(state.ratings, (rating) => rating.promptKey);
  const after = Map.groupBy([...kept, ...change.added], (rating) => rating.promptKey);
  const present = Map.groupBy(state.pairs, (pair) => pair.prompt_key);
  const wanted: RatedPair[] = [];
  const unsure: string[] = [];
  for (const promptKey of new Set([...before.keys(), ...after.keys(), ...present.keys()])) {
    const view = {
      before: before.get(promptKey) ?? [],
      after: after.get(promptKey) ?? [],
      present: new Set((present.get(promptKey) ?? []).map((pair) => pair.id)),
    };
    const pairs = pairChanged(view, rules, ratedPreferenceId);
    if (pairs === null) unsure.push(promptKey);
    else wanted.push(...pairs);
  }
  if (unsure.length > 0) {
    const stored = await findPairableRatings(tx, unsure, pairableScores(rules));
    const added = change.added.filter((rating) => unsure.includes(rating.promptKey));
    wanted.push(...pairRatings([...stored, ...added], rules));
  }
  return apply(
    tx,
    state.pairs.map((pair) => pair.id),
    wanted,
  );
}

async function apply(tx: Tx, present: readonly string[], pairs: readonly RatedPair[]): Promise<SettledPairs> {
  const wanted = new Map(pairs.map((pair) => [ratedPreferenceId(pair), pair]));
  const known = new Set(present);
  const gone = present.filter((id) => !wanted.has(id));
  const added = [...wanted].filter(([id]) => !known.has(id)).map(([id, pair]) => preferenceOf(id, pair));
  const retracted = gone.length === 0 ? [] : await retractPreferences(tx, gone, 'superseded');
  const recorded = added.length === 0 ? [] : await upsertPreferences(tx, added);
  return {
    recorded,
    events: [
      ...retracted.map((row) => announcePreferenceRetracted(row, 'superseded')),
      ...recorded.map(announcePreference),
    ],
  };
}

function preferenceOf(id: string, { promptKey, chosen, rejected, margin }: RatedPair): PreferenceRow {
  return {
    id,
    version: 1,
    source: 'ratings',
    kind: chosen.kind,
    prompt_key: promptKey,
    chosen_response_id: chosen.responseId,
    rejected_response_id: rejected.responseId,
    chosen_text: null,
    margin,
    feedback_ids: [chosen.feedbackId, rejected.feedbackId],
    rater: chosen.rater,
    synthetic: chosen.synthetic || rejected.synthetic,
    created_at: chosen.createdAt > rejected.createdAt ? chosen.createdAt : rejected.createdAt,
  };
}
