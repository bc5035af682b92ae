import { deterministicId } from '@tuneloop/runtime/ids';
import type { RatedPair } from './pairs.ts';

/** Ids follow from the feedback, so that the same feedback can never make two preferences. */
export function statedPreferenceId(feedbackId: string): string {
  return deterministicId('preference', 'stated', feedbackId);
}

export function ratedPreferenceId(pair: RatedPair): string {
  return deterministicId('preference', 'ratings', pair.chosen.feedbackId, pair.rejected.feedbackId);
}
