import type { FeedbackInput } from '@tuneloop/contracts/rewards/http';
import { badRequest } from '@tuneloop/runtime/errors';
import type { Json } from './json.ts';
import { scoreOfStars } from './rules.ts';

/** What one piece of feedback comes to. */
export interface Judgement {
  /** In [-1, 1]; null where nothing was rated. */
  readonly score: number | null;
  readonly stars: number | null;
  /** The raw value, in the scale of its kind. */
  readonly value: Json;
}

const LIKE_SCORES = { like: 0.5, neutral: 0, dislike: -0.5 } as const;
const QUALITY_STEP = 0.2;
const NEUTRAL_QUALITY = 3;

/**
 * Score of feedback by the project's rules.
 * @throws AppError 400 for a dimension that the project does not weigh.
 */
export function judge(input: FeedbackInput, dimensionWeights: Readonly<Record<string, number>>): Judgement {
  switch (input.kind) {
    case 'thumbs':
      return rated(input.value === 'up' ? 1 : -1, input.value);
    case 'stars':
      return { score: scoreOfStars(input.value), stars: input.value, value: input.value };
    case 'like': {
      const bonus = input.quality === undefined ? 0 : (input.quality - NEUTRAL_QUALITY) * QUALITY_STEP;
      const value = input.quality === undefined ? input.value : { value: input.value, quality: input.quality };
      return rated(LIKE_SCORES[input.value] + bonus, value);
    }
    case 'dimensions':
      return rated(weighed(input.dimensions, dimensionWeights), input.dimensions);
    case 'score':
      return rated(input.value, input.value);
    case 'ab':
      return unrated(input.value);
    case 'comment':
      return given(input.score, null);
    case 'correction':
      return given(input.score, input.correction);
    // `report` is what remains; a kind added to the contract fails to compile here.
    default:
      return given(input.score, input.reason);
  }
}

/** Weighted mean of the dimensions that were rated: their weights count in proportion to each other. */
function weighed(dimensions: Readonly<Record<string, number>>, weights: Readonly<Record<string, number>>): number {
  let sum = 0;
  let total = 0;
  for (const [name, score] of Object.entries(dimensions)) {
    const weight = Object.hasOwn(weights, name) ? weights[name] : undefined;
    if (weight === undefined) {
      const known = Object.keys(weights).join(', ');
      throw badRequest(
        'rewards.dimension.unknown',
        `dimensions.${name} has no weight in this project: use ${known}`,
        `dimensions.${name}`,
      );
    }
    sum += weight * score;
    total += weight;
  }
  return sum / total;
}

function rated(score: number, value: Json): Judgement {
  // Sums of tenths leave dust in the last digits; scores are compared and shown.
  return { score: Math.max(-1, Math.min(1, Number(score.toFixed(9)))) + 0, stars: null, value };
}

function unrated(value: Json): Judgement {
  return { score: null, stars: null, value };
}

function given(score: number | undefined, value: Json): Judgement {
  return score === undefined ? unrated(value) : rated(score, value);
}
