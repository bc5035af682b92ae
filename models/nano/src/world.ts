import { hashText, type Random } from './random.ts';

/**
 * The sample world: everything a nano picture can show and a nano caption can say. Words of different
 * attributes never overlap (the colour of an object and of a background have disjoint names), so that a
 * caption's claims can be read off it without guessing which attribute a word belongs to.
 */
export const NOUNS = {
  fashion: ['scarf', 'jacket', 'dress', 'boot', 'hat', 'glove', 'handbag', 'sweater'],
  kitchen: ['mug', 'kettle', 'bowl', 'plate', 'spoon', 'teapot', 'jug', 'pan'],
  furniture: ['chair', 'table', 'sofa', 'lamp', 'shelf', 'stool', 'bench', 'cabinet'],
  fruit: ['apple', 'pear', 'lemon', 'plum', 'cherry', 'peach', 'banana', 'melon'],
  animals: ['cat', 'dog', 'rabbit', 'parrot', 'horse', 'fox', 'owl', 'turtle'],
  vehicles: ['car', 'bicycle', 'bus', 'truck', 'tram', 'scooter', 'boat', 'van'],
  toys: ['kite', 'doll', 'robot', 'puzzle', 'ball', 'rocket', 'marble', 'dinosaur'],
  tools: ['hammer', 'saw', 'wrench', 'drill', 'ladder', 'bucket', 'brush', 'torch'],
  music: ['guitar', 'violin', 'drum', 'flute', 'piano', 'trumpet', 'harp', 'cello'],
  garden: ['tulip', 'rose', 'cactus', 'fern', 'mushroom', 'fountain', 'basket', 'gnome'],
} as const satisfies Record<string, readonly string[]>;

/** Object colours, as sRGB. */
export const COLOURS = {
  red: '#c8282d',
  orange: '#ee7f22',
  yellow: '#f2d329',
  green: '#3c9d44',
  teal: '#178f8f',
  blue: '#2b5fc7',
  purple: '#74369f',
  pink: '#ee6fae',
  brown: '#7a4a2a',
  black: '#161616',
  white: '#fafafa',
  grey: '#8e8e8e',
} as const;

/** Background colours, as sRGB; spread over the colour space so that any picture's border has a near one. */
export const BACKGROUNDS = {
  ivory: '#f4f1e4',
  charcoal: '#2b2c2f',
  slate: '#7d8794',
  sand: '#d2b688',
  sky: '#9ccbec',
  navy: '#22335f',
  mint: '#a9dfc0',
  forest: '#2f5b3a',
  blush: '#f0bdc2',
  wine: '#6e2336',
  lilac: '#bda2dc',
  amber: '#e3a93b',
} as const;

/** Where the light comes from, as it shows in the luminance of the background. */
export const LIGHTS = ['even', 'left', 'right', 'above', 'below', 'upper left', 'upper right', 'spot'] as const;
export const ORIENTATIONS = ['landscape', 'portrait', 'square'] as const;
export const SIZES = ['small', 'medium', 'large'] as const;

export type Category = keyof typeof NOUNS;
export type Noun = (typeof NOUNS)[Category][number];
export type Colour = keyof typeof COLOURS;
export type Background = keyof typeof BACKGROUNDS;
export type Light = (typeof LIGHTS)[number];
export type Orientation = (typeof ORIENTATIONS)[number];
export type Size = (typeof SIZES)[number];

/** Pixel sizes the sample pictures are drawn at: three per orientation, nine in all. */
export const PIXEL_SIZES = {
  landscape: { small: [320, 240], medium: [560, 400], large: [960, 640] },
  portrait: { small: [240, 320], medium: [400, 560], large: [640, 960] },
  square: { small: [288, 288], medium: [480, 480], large: [800, 800] },
} as const satisfies Record<Orientation, Record<Size, readonly [number, number]>>;

/** What a picture shows, attribute by attribute. `noun` is the world's word for the item. */
export interface Attributes {
  noun: string;
  category: string;
  colour: string;
  background: string;
  light: string;
  orientation: string;
  size: string;
}

export type Attribute = keyof Attributes;

export const ATTRIBUTE_VALUES: Readonly<Record<Attribute, readonly string[]>> = {
  noun: Object.values(NOUNS).flat(),
  category: Object.keys(NOUNS),
  colour: Object.keys(COLOURS),
  background: Object.keys(BACKGROUNDS),
  light: LIGHTS,
  orientation: ORIENTATIONS,
  size: SIZES,
};

export const ATTRIBUTE_NAMES = Object.keys(ATTRIBUTE_VALUES) as readonly Attribute[];

const HELD_OUT_SHARE = 0.12;

/** About 12% of the colour-noun pairs never occur in the base's training text: they test generalisation. */
export function isHeldOut(colour: string, noun: string): boolean {
  return hashText(`held-out/${colour}/${noun}`) / 4294967296 < HELD_OUT_SHARE;
}

export type PairsDrawn = 'all' | 'trained' | 'held-out';

/** Draws one picture's attributes, every combination equally likely among the pairs asked for. */
export function drawAttributes(random: Random, pairs: PairsDrawn = 'all'): Attributes {
  const category = random.pick(Object.keys(NOUNS) as Category[]);
  let noun: string;
  let colour: string;
  do {
    noun = random.pick<string>(NOUNS[category]);
    colour = random.pick(Object.keys(COLOURS));
  } while (pairs !== 'all' && isHeldOut(colour, noun) !== (pairs === 'held-out'));
  return {
    noun,
    category,
    colour,
    background: random.pick(Object.keys(BACKGROUNDS)),
    light: random.pick(LIGHTS),
    orientation: random.pick(ORIENTATIONS),
    size: random.pick(SIZES),
  };
}
