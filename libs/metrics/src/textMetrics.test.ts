import { describe, expect, it } from 'vitest';
import fixture from '../fixtures/text.json' with { type: 'json' };
import { corpusBleu, sentenceBleu } from './bleu.ts';
import { corpusChrf, sentenceChrf } from './chrf.ts';
import { perplexity, perplexityFromNll } from './perplexity.ts';
import { porterStem } from './porterStem.ts';
import { rouge } from './rouge.ts';
import { tokenize13a } from './tokenize13a.ts';

const DIGITS = 9;
const hypotheses = fixture.pairs.map((pair) => pair.hypothesis);
const firstReferences = fixture.pairs.map((pair) => pair.references.slice(0, 1));
const twoReferences = fixture.pairs.filter((pair) => pair.references.length === 2);

describe('BLEU against sacrebleu', () => {
  it.each(fixture.pairs)('tokenises and scores "$hypothesis"', (pair) => {
    expect(tokenize13a(pair.hypothesis)).toEqual(pair.tokens);
    const bleu = sentenceBleu(pair.hypothesis, pair.references);
    expect(bleu.score).toBeCloseTo(pair.bleu, DIGITS);
    expect(bleu.brevityPenalty).toBeCloseTo(pair.brevityPenalty, DIGITS);
    pair.precisions.forEach((precision, i) => expect(bleu.precisions[i]).toBeCloseTo(precision, DIGITS));
  });

  it('scores a corpus with one and with two references', () => {
    const bleu = corpusBleu(hypotheses, firstReferences);
    expect(bleu.score).toBeCloseTo(fixture.corpus.bleu, DIGITS);
    expect(bleu.brevityPenalty).toBeCloseTo(fixture.corpus.brevityPenalty, DIGITS);
    const two = corpusBleu(
      twoReferences.map((pair) => pair.hypothesis),
      twoReferences.map((pair) => pair.references),
    );
    expect(two.score).toBeCloseTo(fixture.corpusTwoReferences.bleu, DIGITS);
  });

  it('refuses lists that do not match and segments without a reference', () => {
    expect(() => corpusBleu(['a'], [])).toThrow(RangeError);
    expect(() => sentenceBleu('a', [])).toThrow(RangeError);
  });
});

describe('chrF2 against sacrebleu', () => {
  it.each(fixture.pairs)('scores "$hypothesis"', (pair) => {
    expect(sentenceChrf(pair.hypothesis, pair.references)).toBeCloseTo(pair.chrf, DIGITS);
  });

  it('scores a corpus with one and with two references', () => {
    expect(corpusChrf(hypotheses, firstReferences)).toBeCloseTo(fixture.corpus.chrf, DIGITS);
    const two = corpusChrf(
      twoReferences.map((pair) => pair.hypothesis),
      twoReferences.map((pair) => pair.references),
    );
    expect(two).toBeCloseTo(fixture.corpusTwoReferences.chrf, DIGITS);
  });
});

describe('ROUGE against rouge-score', () => {
  it.each(fixture.pairs)('scores "$hypothesis" with and without stems', (pair) => {
    for (const stem of [false, true]) {
      const scores = rouge(pair.hypothesis, pair.references[0]!, { stem });
      const expected = stem ? pair.rougeStemmed : pair.rouge;
      for (const name of ['rouge1', 'rouge2', 'rougeL'] as const) {
        expect(scores[name].precision).toBeCloseTo(expected[name][0]!, DIGITS);
        expect(scores[name].recall).toBeCloseTo(expected[name][1]!, DIGITS);
        expect(scores[name].fMeasure).toBeCloseTo(expected[name][2]!, DIGITS);
      }
    }
  });

  it('stems as the Porter stemmer of NLTK', () => {
    const stems = Object.fromEntries(Object.keys(fixture.stems).map((word) => [word, porterStem(word)]));
    expect(stems).toEqual(fixture.stems);
  });
});

describe('perplexity', () => {
  it('is the vocabulary size for a uniform model, and pools tokens', () => {
    expect(perplexity(Array.from({ length: 7 }, () => Math.log(1 / 50)))).toBeCloseTo(50, DIGITS);
    expect(perplexityFromNll(3 * Math.log(2) + Math.log(16), 4)).toBeCloseTo(2 ** 1.75, DIGITS);
    expect(() => perplexity([])).toThrow(RangeError);
  });
});
