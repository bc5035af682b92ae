import { parseCaption, type ParsedCaption } from './grammar.ts';
import type { Random } from './random.ts';
import { ATTRIBUTE_NAMES, type Attribute, type Attributes } from './world.ts';

/** What a reviewer knows of a picture; an attribute that is absent can be neither right nor wrong. */
export type KnownFacts = Readonly<Partial<Attributes>>;

/**
 * A scripted reviewer with a stated taste. It stands where a person would: the only scripted part of the
 * sample loop. Everything it says is marked synthetic by whoever records it.
 */
export interface Taste {
  readonly name: string;
  /** The taste in words that a person can check. */
  readonly statement: string;
  /** Reward of a caption, in [-1, 1]; deterministic. */
  score(facts: KnownFacts, caption: string): number;
}

/** Attributes that the caption states with a value the facts contradict. */
export function wrongAttributes(facts: KnownFacts, caption: string): Attribute[] {
  return wrongIn(facts, parseCaption(caption));
}

function wrongIn(facts: KnownFacts, parsed: ParsedCaption): Attribute[] {
  return ATTRIBUTE_NAMES.filter((attribute) => {
    const fact = facts[attribute];
    const stated = parsed.stated[attribute];
    return fact !== undefined && stated?.some((value) => !agrees(attribute, fact, value));
  });
}

/** An item may be described in several words ("a mug by the window"): one of them is enough. */
function agrees(attribute: Attribute, fact: string, value: string): boolean {
  if (fact === value) return true;
  return (
    attribute === 'noun' &&
    fact
      .toLowerCase()
      .split(/[^a-z]+/)
      .includes(value)
  );
}

export function wordCount(caption: string): number {
  return parseCaption(caption).words;
}

const clamp = (score: number): number => Math.max(-1, Math.min(1, score));

/** Words beyond (positive) or short of (negative side) a range, as a distance. */
const outside = (words: number, low: number, high: number): number => Math.max(low - words, words - high, 0);

/** A caption outside the grammar is broken text: every taste dislikes it. */
const BROKEN = -0.8;

interface Reading extends ParsedCaption {
  wrong: number;
  right: number;
}

function taste(name: string, statement: string, judge: (caption: Reading) => number): Taste {
  return {
    name,
    statement,
    score(facts, caption) {
      const parsed = parseCaption(caption);
      const wrong = wrongIn(facts, parsed).length;
      const right = ATTRIBUTE_NAMES.filter((attribute) => facts[attribute] && parsed.stated[attribute]).length - wrong;
      return clamp(judge({ ...parsed, wrong, right }) + (parsed.style === undefined ? BROKEN : 0));
    },
  };
}

const ACCURATE = taste(
  'accurate',
  'True before all: a wrong attribute costs 1 of 2, each right one up to five earns 0.15. Lengths outside 8 to 14 words and small talk cost 0.08 a word.',
  ({ wrong, right, words, chattyWords }) =>
    0.1 + 0.15 * Math.min(right, 5) - wrong - 0.08 * outside(words, 8, 14) - 0.08 * chattyWords,
);

const VIVID = taste(
  'vivid',
  'Rich words please, up to four; a wrong attribute costs 0.5, small talk a little.',
  ({ wrong, richWords, chattyWords }) => -0.5 + 0.375 * Math.min(richWords, 4) - 0.5 * wrong - 0.03 * chattyWords,
);

const PLAIN = taste(
  'plain',
  'Short and plain: every word beyond seven, ornament or small talk costs; a wrong attribute costs 0.5.',
  ({ wrong, words, richWords, chattyWords }) =>
    0.9 - 0.1 * outside(words, 0, 7) - 0.2 * (richWords + chattyWords) - 0.5 * wrong,
);

export const TASTES = { accurate: ACCURATE, vivid: VIVID, plain: PLAIN } as const satisfies Record<string, Taste>;
export type TasteName = keyof typeof TASTES;
export const TASTE_NAMES = Object.keys(TASTES) as readonly TasteName[];

/** Looks a taste up by name; `not-<name>` is its opposite. Throws a RangeError that lists the names. */
export function tasteNamed(name: string): Taste {
  const negated = name.startsWith('not-');
  const found: Taste | undefined = TASTES[(negated ? name.slice(4) : name) as TasteName];
  if (found === undefined) {
    throw new RangeError(`unknown taste "${name}": expected one of ${TASTE_NAMES.join(', ')}, or not-<taste>`);
  }
  return negated ? opposite(found) : found;
}

/** The reviewer who likes exactly what this one dislikes. */
export function opposite(of: Taste): Taste {
  return {
    name: `not-${of.name}`,
    statement: `The opposite of ${of.name}: ${of.statement}`,
    score: (facts, caption) => -of.score(facts, caption),
  };
}

/** Spread of the reviewer's mood around the score, in score units: people rate the same thing differently. */
export const RATING_NOISE = 0.2;
/** Score differences below this read as a tie in an A/B comparison. */
export const TIE_MARGIN = 0.1;

export type Stars = 1 | 2 | 3 | 4 | 5;

/** One noisy rating: the score on the scale of stars, (stars - 3) / 2 being the reward it stands for. */
export function rateStars(random: Random, by: Taste, facts: KnownFacts, caption: string): Stars {
  const felt = by.score(facts, caption) + RATING_NOISE * random.normal();
  return Math.max(1, Math.min(5, Math.round(3 + 2 * felt))) as Stars;
}

export type Comparison = 'a' | 'b' | 'tie';

/** One noisy A/B choice between two captions of a picture. */
export function chooseBetween(random: Random, by: Taste, facts: KnownFacts, a: string, b: string): Comparison {
  const noise = RATING_NOISE * Math.SQRT2 * random.normal();
  const difference = by.score(facts, a) - by.score(facts, b) + noise;
  if (Math.abs(difference) < TIE_MARGIN) return 'tie';
  return difference > 0 ? 'a' : 'b';
}
