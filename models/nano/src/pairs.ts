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

export const CHOSEN_FROM_STARS = 4;
export const REJECTED_TO_STARS = 2;
export const MAX_PAIRS_PER_PROMPT = 4;

/**
 * Preferences among the rated answers to one prompt: at least four stars over at most two, widest margin
 * first, each answer reused only when fresh ones run out; ties in random order.
 */
export function choosePairs<T>(
  random: Random,
  rated: readonly RatedAnswer<T>[],
  limit = MAX_PAIRS_PER_PROMPT,
): AnswerPair<T>[] {
  const liked = rated.filter(({ stars }) => stars >= CHOSEN_FROM_STARS);
  const disliked = rated.filter(({ stars }) => stars <= REJECTED_TO_STARS);
  let open = random.shuffled(liked.flatMap((good) => disliked.map((bad) => ({ good, bad }))));
  const uses = new Map<RatedAnswer<T>, number>();
  const cost = ({ good, bad }: { good: RatedAnswer<T>; bad: RatedAnswer<T> }): number =>
    (uses.get(good) ?? 0) + (uses.get(bad) ?? 0) - (good.stars - bad.stars);
  const pairs: AnswerPair<T>[] = [];
  while (open.length > 0 && pairs.length < limit) {
    const best = open.reduce((least, pair) => (cost(pair) < cost(least) ? pair : least));
    open = open.filter((pair) => pair !== best);
    for (const used of [best.good, best.bad]) uses.set(used, (uses.get(used) ?? 0) + 1);
    pairs.push({ chosen: best.good.answer, rejected: best.bad.answer });
  }
  return pairs;
}
