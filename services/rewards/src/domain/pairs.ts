import type { FeedbackKind } from '@tuneloop/contracts/rewards/events';
import type { FeedbackRules } from './rules.ts';

/** A rating that counts, by a rater who is known. */
export interface Rating {
  readonly feedbackId: string;
  readonly responseId: string;
  readonly promptKey: string;
  readonly kind: FeedbackKind;
  readonly score: number;
  readonly rater: string;
  readonly synthetic: boolean;
  readonly createdAt: Date;
}

/** One answer rated well over another rated badly, both to one prompt, of one kind, by one rater. */
export interface RatedPair {
  readonly promptKey: string;
  readonly chosen: Rating;
  readonly rejected: Rating;
  readonly margin: number;
}

interface Candidate extends RatedPair {
  readonly round: number;
}

/**
 * The pairs that the ratings of some prompts make: a function of the set of ratings alone, not of their order, so that
 * deliveries in any order end with the same preferences.
 *
 * One rater's good and bad answers are matched best with worst, then second best with second worst, and so on, so that
 * the few pairs of a prompt use as many different answers as there are; each prompt keeps the first pairs by round and
 * margin.
 */
export function pairRatings(ratings: readonly Rating[], rules: FeedbackRules): RatedPair[] {
  const prompts = Map.groupBy(ratings, (rating) => rating.promptKey);
  return [...prompts.values()].flatMap((ofPrompt) => pairPrompt(ofPrompt, rules));
}

export interface PartialView {
  /** Ratings that count before the change, of some raters: all that the change is about or that a present pair is by. */
  readonly before: readonly Rating[];
  /** The same raters' ratings after the change. */
  readonly after: readonly Rating[];
  /** Names of the pairs that the prompt has at present. */
  readonly present: ReadonlySet<string>;
}

/**
 * The pairs of one prompt after a change, worked out from the ratings of those raters alone; null when raters who were
 * left out may have pairs to fill a place that the change made free.
 *
 * Pairs left out rank behind the last present one while the prompt has its full number; while it has fewer, there are
 * none. So the answer holds as long as the prompt's last pair ranks no worse than before.
 */
export function pairChanged(
  view: PartialView,
  rules: FeedbackRules,
  name: (pair: RatedPair) => string,
): RatedPair[] | null {
  const before = pairPrompt(view.before, rules);
  if (before.length !== view.present.size || !before.every((pair) => view.present.has(name(pair)))) return null;
  const after = pairPrompt(view.after, rules);
  if (before.length < rules.maxPairsPerPrompt) return after;
  const [lastBefore, lastAfter] = [before.at(-1), after.at(-1)];
  if (lastBefore === undefined) return after;
  const full = after.length === rules.maxPairsPerPrompt && lastAfter !== undefined;
  return full && byPriority(lastAfter, lastBefore) <= 0 ? after : null;
}

function pairPrompt(ratings: readonly Rating[], rules: FeedbackRules): Candidate[] {
  const groups = Map.groupBy(ratings, (rating) => `${rating.kind}\n${rating.rater}`);
  const candidates = [...groups.values()].flatMap((group) => candidatesOf(group, rules));
  return candidates.toSorted(byPriority).slice(0, rules.maxPairsPerPrompt);
}

function candidatesOf(group: readonly Rating[], rules: FeedbackRules): Candidate[] {
  const good = group
    .filter(({ score }) => score >= rules.chosenMinScore)
    .toSorted((a, b) => b.score - a.score || compare(a.feedbackId, b.feedbackId));
  const bad = group
    .filter(({ score }) => score <= rules.rejectedMaxScore)
    .toSorted((a, b) => a.score - b.score || compare(a.feedbackId, b.feedbackId));
  const pairs: Candidate[] = [];
  const total = Math.min(good.length * bad.length, rules.maxPairsPerPrompt);
  const cycle = lcm(good.length, bad.length);
  for (let round = 0; round < total; round++) {
    // Walking both lists in step repeats after their least common multiple; one more shift then gives new pairs.
    const chosen = good[round % good.length]!;
    const rejected = bad[(round + Math.floor(round / cycle)) % bad.length]!;
    if (chosen.score <= rejected.score) continue;
    pairs.push({ promptKey: chosen.promptKey, chosen, rejected, margin: chosen.score - rejected.score, round });
  }
  return pairs;
}

function byPriority(a: Candidate, b: Candidate): number {
  return (
    a.round - b.round ||
    b.margin - a.margin ||
    compare(a.chosen.feedbackId, b.chosen.feedbackId) ||
    compare(a.rejected.feedbackId, b.rejected.feedbackId)
  );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function lcm(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y !== 0) [x, y] = [y, x % y];
  return x === 0 ? 0 : (a / x) * b;
}
