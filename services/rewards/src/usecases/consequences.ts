import type { KnownResponse } from '../store/responses.ts';
import type { FeedbackRow } from '../store/feedback.ts';
import type { PreferenceRow } from '../store/preferences.ts';
import type { RewardRow } from '../store/rewards.ts';
import { newId } from '@tuneloop/runtime/ids';
import type { Rating } from '../domain/pairs.ts';
import { statedPreferenceId } from '../domain/preference.ts';
import type { Judgement } from '../domain/score.ts';

/** Feedback that can be taken, with all that follows from it alone. */
export interface Accepted {
  readonly row: FeedbackRow;
  readonly judgement: Judgement;
  readonly response: KnownResponse;
  readonly other: KnownResponse | null;
  readonly known: boolean;
}

/** The reward that feedback with a score comes to. */
export function rewardOf({ row, judgement, response, known }: Accepted): RewardRow | null {
  if (judgement.score === null) return null;
  return {
    id: newId(),
    version: 1,
    feedback_id: row.id,
    response_id: row.response_id,
    prompt_key: response.prompt_key,
    kind: row.kind,
    score: judgement.score,
    stars: judgement.stars,
    rater: row.user_id,
    identified: known,
    synthetic: row.synthetic,
    detail: typeof judgement.value === 'object' ? judgement.value : null,
    brand: row.brand,
    task: row.task,
    created_at: row.created_at,
  };
}

/** What an A/B choice or a correction prefers; ties and the like are kept as feedback alone. */
export function statedPreference({ row, response, other }: Accepted): PreferenceRow | null {
  const shared = {
    id: statedPreferenceId(row.id),
    version: 1,
    kind: row.kind,
    prompt_key: response.prompt_key,
    margin: null,
    feedback_ids: [row.id],
    rater: row.user_id,
    synthetic: row.synthetic,
    created_at: row.created_at,
  };
  if (row.kind === 'correction' && typeof row.value === 'string') {
    return {
      ...shared,
      source: 'correction',
      chosen_response_id: response.id,
      rejected_response_id: response.id,
      chosen_text: row.value,
    };
  }
  if (other === null || (row.value !== 'a' && row.value !== 'b')) return null;
  const [chosen, rejected] = row.value === 'a' ? [response, other] : [other, response];
  return {
    ...shared,
    source: 'ab',
    chosen_response_id: chosen.id,
    rejected_response_id: rejected.id,
    chosen_text: null,
  };
}

/** Whether a reward is one side of a pair to be. */
export function isRating(row: RewardRow): row is RewardRow & { readonly feedback_id: string } {
  return row.identified && row.feedback_id !== null;
}

export function ratingOf(row: RewardRow & { readonly feedback_id: string }): Rating {
  return {
    feedbackId: row.feedback_id,
    responseId: row.response_id,
    promptKey: row.prompt_key,
    kind: row.kind,
    score: row.score,
    rater: row.rater,
    synthetic: row.synthetic,
    createdAt: row.created_at,
  };
}
