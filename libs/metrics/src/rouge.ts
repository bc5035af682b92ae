import { porterStem } from './porterStem.ts';

export interface OverlapScore {
  readonly precision: number;
  readonly recall: number;
  readonly fMeasure: number;
}

export interface RougeScores {
  readonly rouge1: OverlapScore;
  readonly rouge2: OverlapScore;
  readonly rougeL: OverlapScore;
}

const STEM_LONGER_THAN = 3;
const ZERO: OverlapScore = { precision: 0, recall: 0, fMeasure: 0 };

/**
 * ROUGE-1, ROUGE-2 and sentence-level ROUGE-L (Lin 2004) as Google's rouge-score computes them: lower case, every
 * character but a-z and 0-9 a separator. Each value is in [0, 1].
 *
 * @param options.stem Porter stems of words longer than three letters; default false
 */
export function rouge(prediction: string, reference: string, options: { stem?: boolean } = {}): RougeScores {
  const predicted = tokenize(prediction, options.stem ?? false);
  const expected = tokenize(reference, options.stem ?? false);
  return {
    rouge1: ngramOverlap(predicted, expected, 1),
    rouge2: ngramOverlap(predicted, expected, 2),
    rougeL: subsequenceOverlap(predicted, expected),
  };
}

function tokenize(text: string, stem: boolean): string[] {
  const tokens = text
    .toLowerCase()
    .split(/[^a-z0-9]+/u)
    .filter((token) => token !== '');
  return stem ? tokens.map((token) => (token.length > STEM_LONGER_THAN ? porterStem(token) : token)) : tokens;
}

function ngramOverlap(predicted: readonly string[], expected: readonly string[], order: number): OverlapScore {
  const available = new Map<string, number>();
  for (const ngram of ngrams(expected, order)) available.set(ngram, (available.get(ngram) ?? 0) + 1);
  let matches = 0;
  for (const ngram of ngrams(predicted, order)) {
    const left = available.get(ngram) ?? 0;
    if (left === 0) continue;
    available.set(ngram, left - 1);
    matches++;
  }
  return overlap(matches, predicted.length - order + 1, expected.length - order + 1);
}

function ngrams(tokens: readonly string[], order: number): string[] {
  return tokens.slice(0, Math.max(0, tokens.length - order + 1)).map((_, i) => tokens.slice(i, i + order).join(' '));
}

function subsequenceOverlap(predicted: readonly string[], expected: readonly string[]): OverlapScore {
  let row = new Int32Array(predicted.length + 1);
  for (const token of expected) {
    const next = new Int32Array(predicted.length + 1);
    for (let j = 1; j <= predicted.length; j++) {
      next[j] = predicted[j - 1] === token ? row[j - 1]! + 1 : Math.max(row[j]!, next[j - 1]!);
    }
    row = next;
  }
  return overlap(row[predicted.length]!, predicted.length, expected.length);
}

function overlap(matches: number, produced: number, expected: number): OverlapScore {
  if (matches === 0) return ZERO;
  const precision = matches / produced;
  const recall = matches / expected;
  return { precision, recall, fMeasure: (2 * precision * recall) / (precision + recall) };
}
