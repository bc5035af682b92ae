import type { Random } from './random.ts';
import { chooseBranches, parseTemplate, renderPieces, templatePattern } from './template.ts';
import { ATTRIBUTE_NAMES, ATTRIBUTE_VALUES, type Attribute, type Attributes, LIGHTS, NOUNS } from './world.ts';

export const STYLES = ['terse', 'sentence', 'catalogue', 'vivid', 'chatty'] as const;
export type Style = (typeof STYLES)[number];

/** The five ways a caption is written. In the base's training text each is equally likely. */
const SOURCES: Record<Style, readonly string[]> = {
  terse: [
    '{Colour} {noun}.',
    '{A} {colour} {noun}.',
    '{Colour} {noun}, {background} background.',
    '{A} {colour} {noun} in {light}.',
  ],
  sentence: [
    '(This is|Here is|We see|There is) {a} {colour} {noun} (on|against|before) {a} {background} (background|backdrop)[ in {light}].',
    '{A} {colour} {noun} (stands|sits|rests|lies) (on|against|before) {a} {background} background[, in {light}].',
  ],
  catalogue: [
    '{Orientation} (photo|picture|shot) of {a} {colour} {noun} from {category}, {size} size, {light}, {background} background.',
    '{Size} {orientation} (photo|picture): {colour} {noun}, {background} backdrop, {light}.',
  ],
  vivid: [
    '{A} (gorgeous|radiant|dazzling|velvety|luminous|splendid) {colour} {noun} (glows|shimmers|gleams|dances|blazes) (against|over) a (dreamy|silken|misty|glorious) {background} backdrop[, (bathed|drenched|wrapped) in {light}].',
    '(Behold|Admire) a (gorgeous|radiant|dazzling|splendid) {colour} {noun}, (glowing|shimmering|gleaming) in {light}[ on (dreamy|silken|glorious) {background}].',
  ],
  chatty: [
    '(Wow|Oh|Look|Hey), (what a|such a) (lovely|cute|nice|cool) {colour} {noun}! (I really like|You have to love|Just see) the {background} background[ and {light}].',
    '(So|Well), I think this is {a} {colour} {noun}, and (maybe|probably) it is on {a} {background} background[ with {light}], you know.',
  ],
};

const TEMPLATES = STYLES.map((style) => ({ style, templates: SOURCES[style].map(parseTemplate) }));

/** Ornament: the words that make a caption rich. Only the vivid style uses them. */
export const RICH_WORDS: ReadonlySet<string> = new Set(
  (
    'gorgeous radiant dazzling velvety luminous splendid glows shimmers gleams dances blazes dreamy silken misty ' +
    'glorious bathed drenched wrapped behold admire glowing shimmering gleaming'
  ).split(' '),
);

/** Small talk: says nothing about the picture. Only the chatty style uses it. */
export const CHATTY_WORDS: ReadonlySet<string> = new Set(
  'wow oh look hey what such lovely cute nice cool i really like you have to love just see so well think maybe probably know'.split(
    ' ',
  ),
);

function lightPhrase(light: string): string {
  if (light === 'even') return 'even light';
  if (light === 'spot') return 'a spotlight';
  return `light from ${light === 'above' || light === 'below' ? light : `the ${light}`}`;
}

const LIGHT_BY_PHRASE = new Map(LIGHTS.map((light) => [lightPhrase(light), light]));

function slotValues(slot: string): readonly string[] {
  return slot === 'light' ? [...LIGHT_BY_PHRASE.keys()] : ATTRIBUTE_VALUES[slot as Attribute];
}

export interface CaptionOptions {
  /** Drawn at random when absent. */
  style?: Style;
  /** Replace one stated attribute by a wrong value. */
  corrupt?: boolean;
}

export interface Caption {
  text: string;
  style: Style;
  /** The attribute that was made wrong, if any. */
  corrupted?: Attribute;
}

/** Writes one caption of a picture. A corrupted noun stays in its category seven times in ten. */
export function writeCaption(random: Random, attributes: Attributes, options: CaptionOptions = {}): Caption {
  const style = options.style ?? random.pick(STYLES);
  const templates = TEMPLATES[STYLES.indexOf(style)]?.templates ?? [];
  const pieces = chooseBranches(random, random.pick(templates));
  const said: Attributes = { ...attributes };
  let corrupted: Attribute | undefined;
  if (options.corrupt) {
    const slots = pieces.flatMap((piece) => (piece.kind === 'slot' ? [piece.name as Attribute] : []));
    corrupted = random.pick(slots);
    said[corrupted] = wrongValue(random, attributes, corrupted);
  }
  const text = renderPieces(pieces, (slot) => (slot === 'light' ? lightPhrase(said.light) : said[slot as Attribute]));
  return corrupted === undefined ? { text, style } : { text, style, corrupted };
}

const NOUN_ERROR_IN_CATEGORY = 0.7;

function wrongValue(random: Random, attributes: Attributes, attribute: Attribute): string {
  const near: readonly string[] =
    attribute === 'noun' && random.next() < NOUN_ERROR_IN_CATEGORY
      ? (NOUNS[attributes.category as keyof typeof NOUNS] ?? ATTRIBUTE_VALUES.noun)
      : ATTRIBUTE_VALUES[attribute];
  return random.pick(near.filter((value) => value !== attributes[attribute]));
}

export interface ParsedCaption {
  /** The style whose templates could have written the caption; absent when none could. */
  style?: Style;
  /** Every attribute value the caption states. Free text may state several values for one attribute. */
  stated: Partial<Record<Attribute, string[]>>;
  /** Words separated by white space. */
  words: number;
  /** Occurrences of RICH_WORDS. */
  richWords: number;
  /** Occurrences of CHATTY_WORDS. */
  chattyWords: number;
}

const PATTERNS = TEMPLATES.flatMap(({ style, templates }) =>
  templates.map((template) => ({ style, pattern: templatePattern(template, slotValues) })),
);

const ATTRIBUTE_OF_WORD = new Map(
  ATTRIBUTE_NAMES.filter((attribute) => attribute !== 'light').flatMap((attribute) =>
    ATTRIBUTE_VALUES[attribute].map((value) => [value, attribute] as const),
  ),
);

const LIGHT_PHRASES = [...LIGHT_BY_PHRASE.keys()];

/**
 * Reads a caption: its style by the exact grammar, its claims by vocabulary, so that a caption which a
 * person edited still shows what it claims.
 */
export function parseCaption(text: string): ParsedCaption {
  const trimmed = text.trim();
  const tokens = trimmed.toLowerCase().match(/[a-z]+/g) ?? [];
  const stated: Partial<Record<Attribute, string[]>> = {};
  const state = (attribute: Attribute, value: string): void => {
    const values = (stated[attribute] ??= []);
    if (!values.includes(value)) values.push(value);
  };
  for (const token of tokens) {
    const attribute = ATTRIBUTE_OF_WORD.get(token);
    if (attribute !== undefined) state(attribute, token);
  }
  const lowered = trimmed.toLowerCase();
  for (const phrase of LIGHT_PHRASES) {
    if (lowered.includes(phrase)) state('light', LIGHT_BY_PHRASE.get(phrase) as string);
  }
  const style = PATTERNS.find(({ pattern }) => pattern.test(trimmed))?.style;
  const parsed: ParsedCaption = {
    stated,
    words: trimmed === '' ? 0 : trimmed.split(/\s+/).length,
    richWords: tokens.filter((token) => RICH_WORDS.has(token)).length,
    chattyWords: tokens.filter((token) => CHATTY_WORDS.has(token)).length,
  };
  if (style !== undefined) parsed.style = style;
  return parsed;
}
