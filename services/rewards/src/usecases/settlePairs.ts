import type { PendingEvent } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { pairRatings, type RatedPair, type Rating } from '../domain/pairs.ts';
import { ratedPreferenceId } from '../domain/preference.ts';
import type { FeedbackRules } from '../domain/rules.ts';
import { findRatedPairIds, type PreferenceRow, retractPreferences, upsertPreferences } from '../store/preferences.ts';
import { findPairableRatings } from '../store/rewards.ts';
import { announcePreference, announcePreferenceRetracted } from './announce.ts';

export interface SettledPairs {
  readonly recorded: readonly PreferenceRow[];
  readonly events: readonly PendingEvent[];
}

/** What the ratings of some prompts are before a change. The prompts must be locked. */
export interface PairState {
  readonly ratings: readonly Rating[];
  readonly pairIds: readonly string[];
}

export async function readPairState(tx: Tx, promptKeys: readonly string[], rules: FeedbackRules): Promise<PairState> {
  if (promptKeys.length === 0) return { ratings: [], pairIds: [] };
  const scores = { chosenMin: rules.chosenMinScore, rejectedMax: rules.rejectedMaxScore };
  return {
    ratings: await findPairableRatings(tx, promptKeys, scores),
    pairIds: await findRatedPairIds(tx, promptKeys),
  };
}

/** Brings the preferences made of ratings in line with the ratings that count now. */
export async function settlePairs(tx: Tx, state: PairState, rules: FeedbackRules): Promise<SettledPairs> {
  const wanted = new Map(pairRatings(state.ratings, rules).map((pair) => [ratedPreferenceId(pair), pair]));
  const present = new Set(state.pairIds);
  const gone = state.pairIds.filter((id) => !wanted.has(id));
  const added = [...wanted].filter(([id]) => !present.has(id)).map(([id, pair]) => preferenceOf(id, pair));
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
