const MAX_ORDER = 6;
const BETA_SQUARED = 4;

/**
 * Corpus chrF2 (Popović 2015) as sacrebleu computes it: character n-grams of orders 1 to 6 without whitespace,
 * recall weighted twice as much as precision, orders absent from either side left out.
 *
 * @param references for each segment its references; the best one for the segment counts
 * @returns 0 to 100
 */
export function corpusChrf(hypotheses: readonly string[], references: readonly (readonly string[])[]): number {
  if (hypotheses.length !== references.length) {
    throw new RangeError(`${hypotheses.length} hypotheses but references for ${references.length} segments`);
  }
  const sums = new Float64Array(3 * MAX_ORDER);
  hypotheses.forEach((hypothesis, i) => {
    const best = bestCounts(hypothesis, references[i]!);
    best.forEach((count, at) => {
      sums[at]! += count;
    });
  });
  return fScore(sums);
}

/** chrF2 of one sentence, 0 to 100. */
export function sentenceChrf(hypothesis: string, references: readonly string[]): number {
  return fScore(bestCounts(hypothesis, references));
}

/** Counts of the reference with the best score; per order: n-grams of the hypothesis, of the reference, in both. */
function bestCounts(hypothesis: string, references: readonly string[]): Float64Array {
  if (references.length === 0) throw new RangeError('a segment needs at least one reference');
  const hypothesisNgrams = ngramsByOrder(hypothesis);
  let best = new Float64Array(3 * MAX_ORDER);
  let bestScore = -1;
  for (const reference of references) {
    const counts = matchCounts(hypothesisNgrams, ngramsByOrder(reference));
    const score = fScore(counts);
    if (score > bestScore) [best, bestScore] = [counts, score];
  }
  return best;
}

function matchCounts(hypothesis: Map<string, number>[], reference: Map<string, number>[]): Float64Array<ArrayBuffer> {
  const counts = new Float64Array(3 * MAX_ORDER);
  for (let order = 0; order < MAX_ORDER; order++) {
    const expected = reference[order]!;
    // An order that the reference is too short for says nothing about the hypothesis either.
    for (const [ngram, count] of expected.size > 0 ? hypothesis[order]! : []) {
      counts[3 * order]! += count;
      counts[3 * order + 2]! += Math.min(count, expected.get(ngram) ?? 0);
    }
    for (const count of expected.values()) counts[3 * order + 1]! += count;
  }
  return counts;
}

function fScore(counts: Float64Array): number {
  let precision = 0;
  let recall = 0;
  let orders = 0;
  for (let order = 0; order < MAX_ORDER; order++) {
    const [produced, expected, matched] = [counts[3 * order]!, counts[3 * order + 1]!, counts[3 * order + 2]!];
    if (produced === 0 || expected === 0) continue;
    precision += matched / produced;
    recall += matched / expected;
    orders++;
  }
  if (orders === 0 || precision + recall === 0) return 0;
  precision /= orders;
  recall /= orders;
  return (100 * (1 + BETA_SQUARED) * precision * recall) / (BETA_SQUARED * precision + recall);
}

function ngramsByOrder(text: string): Map<string, number>[] {
  const characters = Array.from(text.replaceAll(/\s+/gu, ''));
  return Array.from({ length: MAX_ORDER }, (_, i) => {
    const counts = new Map<string, number>();
    for (let start = 0; start + i + 1 <= characters.length; start++) {
      const ngram = characters.slice(start, start + i + 1).join('');
      counts.set(ngram, (counts.get(ngram) ?? 0) + 1);
    }
    return counts;
  });
}
