import type { Random } from './random.ts';

export interface RatedAnswer<T> {
  answer: T;
  /** 1 to 5. */
  stars: number;
}

export interface AnswerPair<T> {
  chosen: T;
  rejected: T;
}

const CHOSEN_FROM_STARS = 4;
const REJECTED_TO_STARS = 2;
const MAX_PAIRS_PER_PROMPT = 4;

/**
 * Preferences among the rated answers to one prompt, by the rewards service's default rule: at least four
 * stars over at most two, the best with the worst, the second best with the second worst, and round again;
 * among equal ratings in random order.
 */
export function choosePairs<T>(
  random: Random,
  rated: readonly RatedAnswer<T>[],
  limit = MAX_PAIRS_PER_PROMPT,
): AnswerPair<T>[] {
  const mixed = random.shuffled(rated);
  const good = mixed.filter(({ stars }) => stars >= CHOSEN_FROM_STARS).toSorted((a, b) => b.stars - a.stars);
  const bad = mixed.filter(({ stars }) => stars <= REJECTED_TO_STARS).toSorted((a, b) => a.stars - b.stars);
  const pairs: AnswerPair<T>[] = [];
  for (let shift = 0; shift < bad.length; shift++) {
    // Walking both lists in step meets each combination of indices equal modulo their common divisor once.
    for (let i = 0; i < leastCommonMultiple(good.length, bad.length); i++) {
      if (pairs.length === Math.min(limit, good.length * bad.length)) return pairs;
      pairs.push({ chosen: good[i % good.length]!.answer, rejected: bad[(i + shift) % bad.length]!.answer });
    }
  }
  return pairs;
}

function leastCommonMultiple(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y !== 0) [x, y] = [y, x % y];
  return x === 0 ? 0 : (a / x) * b;
}
