import type { feedbackRules } from '@tuneloop/contracts/gateway/events';
import type { z } from 'zod';

export interface FeedbackRules {
  readonly dimensionWeights: Readonly<Record<string, number>>;
  /** Scores at or above are good enough to be preferred, at or below the other bad enough to be rejected. */
  readonly chosenMinScore: number;
  readonly rejectedMaxScore: number;
  readonly maxPairsPerPrompt: number;
}

const DIMENSION_WEIGHTS = { accuracy: 0.5, brand: 0.3, compliance: 0.2 } as const;
const CHOSEN_MIN_STARS = 4;
const REJECTED_MAX_STARS = 2;
const MAX_PAIRS_PER_PROMPT = 4;

/** Stars 1 to 5 on the scale of scores. */
export function scoreOfStars(stars: number): number {
  return (stars - 3) / 2;
}

/** A project's rules, with the defaults where it says nothing. */
export function rulesOf(settings: z.output<typeof feedbackRules> | undefined): FeedbackRules {
  return {
    dimensionWeights: settings?.dimension_weights ?? DIMENSION_WEIGHTS,
    chosenMinScore: scoreOfStars(settings?.chosen_min_stars ?? CHOSEN_MIN_STARS),
    rejectedMaxScore: scoreOfStars(settings?.rejected_max_stars ?? REJECTED_MAX_STARS),
    maxPairsPerPrompt: settings?.max_pairs_per_prompt ?? MAX_PAIRS_PER_PROMPT,
  };
}
