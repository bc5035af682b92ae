import { wordsOf } from '@tuneloop/metrics/minhash';

/** Each in [0, 1]. */
export interface TextQuality {
  readonly length: number;
  readonly diversity: number;
  readonly structure: number;
  readonly coherence: number;
}

/** A passage of so many words says enough to be asked about. */
const ENOUGH_WORDS = 40;
/** Distinct words in a window of so many: 0.7 and more in prose of any kind, under 0.35 where words repeat. */
const WINDOW = 50;
const POOR_DIVERSITY = 0.35;
const GOOD_DIVERSITY = 0.65;
/** Share of letters, digits and spaces: about 0.95 in prose, under 0.6 in garbled text. */
const POOR_LETTERS = 0.55;
const GOOD_LETTERS = 0.85;
/** Mean letters of a word; OCR waste and broken encodings lie outside. */
const WORD_LETTERS = { least: 2, most: 14 };

/**
 * How fit a passage is to be learnt from, told by four properties: how much it says (words up to 40), how rich its words
 * are (moving-average type-token ratio, Covington and McFall 2010), whether it is built of sentences, items or rows, and
 * whether it hangs together (letters rather than signs, words of usual length, no line or phrase over and over).
 */
export function textQuality(text: string): TextQuality {
  const words = wordsOf(text);
  if (words.length === 0) return { length: 0, diversity: 0, structure: 0, coherence: 0 };
  return {
    length: Math.min(1, words.length / ENOUGH_WORDS),
    diversity: between(movingDiversity(words), POOR_DIVERSITY, GOOD_DIVERSITY),
    structure: structureOf(text, words.length),
    coherence: coherenceOf(text, words),
  };
}

/** One number in [0, 1]: the geometric mean, so that what fails in one respect is not saved by the others. */
export function qualityScore({ length, diversity, structure, coherence }: TextQuality): number {
  return (length * diversity * structure * coherence) ** 0.25;
}

function movingDiversity(words: readonly string[]): number {
  const size = Math.min(WINDOW, words.length);
  const counts = new Map<string, number>();
  let sum = 0;
  words.forEach((word, i) => {
    counts.set(word, (counts.get(word) ?? 0) + 1);
    const leaving = words[i - size];
    if (leaving !== undefined) {
      const left = counts.get(leaving)! - 1;
      if (left === 0) counts.delete(leaving);
      else counts.set(leaving, left);
    }
    if (i >= size - 1) sum += counts.size / size;
  });
  return sum / (words.length - size + 1);
}

/** The share of lines that are whole: a sentence that ends, an item, a row. Half for one that breaks off. */
function structureOf(text: string, words: number): number {
  const lines = text.split('\n').filter((line) => /[\p{L}\p{N}]/u.test(line));
  const whole = lines.filter(
    (line) => /[.!?…:;。！？"”’)\]|]\s*$/.test(line) || /^\s*(?:[-*#|]|\d{1,3}[.)])/.test(line),
  );
  const ended = lines.length === 0 ? 0 : whole.length / lines.length;
  // Words in very long lines without any end of a sentence are a list of keywords.
  const ends = text.match(/[.!?…。！？](?:\s|$)|\n/g)?.length ?? 0;
  const runOn = words / (ends + 1) > 120 ? 0.5 : 1;
  return (0.4 + 0.6 * ended) * runOn;
}

function coherenceOf(text: string, words: readonly string[]): number {
  const shown = text.replace(/[\s|]|-{3,}/g, '');
  const letters = (shown.match(/[\p{L}\p{M}\p{N}]/gu)?.length ?? 0) / Math.max(1, shown.length);
  const mean = words.reduce((sum, word) => sum + word.length, 0) / words.length;
  const scriptWithoutSpaces = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]/u.test(text);
  const usual = scriptWithoutSpaces || (mean >= WORD_LETTERS.least && mean <= WORD_LETTERS.most) ? 1 : 0.4;
  const phrases = words.slice(2).map((_, i) => `${words[i]} ${words[i + 1]} ${words[i + 2]}`);
  const fresh = phrases.length === 0 ? 1 : new Set(phrases).size / phrases.length;
  return between(letters, POOR_LETTERS, GOOD_LETTERS) * usual * fresh;
}

function between(value: number, low: number, high: number): number {
  return Math.min(1, Math.max(0, (value - low) / (high - low)));
}
