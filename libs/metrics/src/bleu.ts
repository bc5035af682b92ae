import { tokenize13a } from './tokenize13a.ts';

const MAX_ORDER = 4;

export interface BleuScore {
  /** 0 to 100. */
  readonly score: number;
  /** Per order 1 to 4, 0 to 100, after smoothing. */
  readonly precisions: readonly number[];
  readonly brevityPenalty: number;
  readonly hypothesisLength: number;
  readonly referenceLength: number;
}

interface BleuCounts {
  readonly correct: number[];
  readonly total: number[];
  hypothesisLength: number;
  referenceLength: number;
}

/**
 * Corpus BLEU (Papineni et al. 2002) as sacrebleu computes it: 13a tokens, mixed case, exponential smoothing.
 *
 * @param hypotheses one per segment
 * @param references for each segment its references, at least one
 */
export function corpusBleu(hypotheses: readonly string[], references: readonly (readonly string[])[]): BleuScore {
  return scoreOf(countCorpus(hypotheses, references), false);
}

/** BLEU of one sentence, over only those n-gram orders which the hypothesis is long enough to have. */
export function sentenceBleu(hypothesis: string, references: readonly string[]): BleuScore {
  return scoreOf(countCorpus([hypothesis], [references]), true);
}

function countCorpus(hypotheses: readonly string[], references: readonly (readonly string[])[]): BleuCounts {
  if (hypotheses.length !== references.length) {
    throw new RangeError(`${hypotheses.length} hypotheses but references for ${references.length} segments`);
  }
  const counts: BleuCounts = {
    correct: Array.from({ length: MAX_ORDER }, () => 0),
    total: Array.from({ length: MAX_ORDER }, () => 0),
    hypothesisLength: 0,
    referenceLength: 0,
  };
  hypotheses.forEach((hypothesis, i) => addSegment(counts, hypothesis, references[i]!));
  return counts;
}

function addSegment(counts: BleuCounts, hypothesis: string, references: readonly string[]): void {
  if (references.length === 0) throw new RangeError('a segment needs at least one reference');
  const tokens = tokenize13a(hypothesis);
  const referenceTokens = references.map(tokenize13a);
  counts.hypothesisLength += tokens.length;
  counts.referenceLength += closestLength(
    tokens.length,
    referenceTokens.map((reference) => reference.length),
  );
  for (let order = 1; order <= MAX_ORDER; order++) {
    const allowed = new Map<string, number>();
    for (const reference of referenceTokens) {
      for (const [ngram, count] of countNgrams(reference, order)) {
        allowed.set(ngram, Math.max(count, allowed.get(ngram) ?? 0));
      }
    }
    for (const [ngram, count] of countNgrams(tokens, order)) {
      counts.total[order - 1]! += count;
      counts.correct[order - 1]! += Math.min(count, allowed.get(ngram) ?? 0);
    }
  }
}

function scoreOf(counts: BleuCounts, effectiveOrder: boolean): BleuScore {
  const { correct, total, hypothesisLength, referenceLength } = counts;
  const brevityPenalty = brevityPenaltyOf(hypothesisLength, referenceLength);
  const precisions = Array.from({ length: MAX_ORDER }, () => 0);
  const shape = { precisions, brevityPenalty, hypothesisLength, referenceLength };
  if (correct.every((count) => count === 0)) return { score: 0, ...shape };
  let orders = MAX_ORDER;
  let smoothing = 1;
  for (let n = 0; n < MAX_ORDER && total[n]! > 0; n++) {
    if (effectiveOrder) orders = n + 1;
    if (correct[n] === 0) smoothing *= 2; // each order without a match counts half as much as the one before
    precisions[n] = (100 * (correct[n] === 0 ? 1 / smoothing : correct[n]!)) / total[n]!;
  }
  const used = precisions.slice(0, orders);
  if (used.some((precision) => precision === 0)) return { score: 0, ...shape };
  const meanLog = used.reduce((sum, precision) => sum + Math.log(precision), 0) / orders;
  return { score: brevityPenalty * Math.exp(meanLog), ...shape };
}

function brevityPenaltyOf(hypothesisLength: number, referenceLength: number): number {
  if (hypothesisLength >= referenceLength) return 1;
  return hypothesisLength === 0 ? 0 : Math.exp(1 - referenceLength / hypothesisLength);
}

/** The reference length nearest to the hypothesis; the shorter of two equally near. */
function closestLength(length: number, candidates: readonly number[]): number {
  return candidates.reduce((best, candidate) => {
    const gain = Math.abs(best - length) - Math.abs(candidate - length);
    return gain > 0 || (gain === 0 && candidate < best) ? candidate : best;
  });
}

function countNgrams(tokens: readonly string[], order: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + order <= tokens.length; i++) {
    const ngram = tokens.slice(i, i + order).join(' ');
    counts.set(ngram, (counts.get(ngram) ?? 0) + 1);
  }
  return counts;
}
