import { classifyLight, lightFactor, type LumaSample } from './light.ts';
import { nearestName, toHex, type Rgb } from './colour.ts';
import {
  ATTRIBUTE_VALUES,
  type Attribute,
  type Attributes,
  BACKGROUNDS,
  COLOURS,
  type Light,
  type Orientation,
  type Size,
} from './world.ts';

export interface DominantColour {
  /** Mean colour of the cluster, `#rrggbb`. */
  hex: string;
  /** Share of the picture's pixels, in [0, 1]. */
  share: number;
}

/** What can be told from a picture's pixels alone. */
export interface PictureFacts {
  /** Original size in pixels, after orientation by EXIF. */
  width: number;
  height: number;
  orientation: Orientation;
  size: Size;
  /** At most five, largest share first. */
  dominantColours: DominantColour[];
  /** Nearest colour name to the centre of the picture, with its mean colour. */
  objectColour: { name: string; hex: string };
  /** Nearest background name to the picture's border, with its mean colour where the light falls. */
  background: { name: string; hex: string };
  light: Light;
  /** Rec. 709 luma of the sRGB values, 0 to 1: mean and standard deviation. */
  meanLuma: number;
  contrast: number;
}

/** Pictures are read at this many pixels a side, stretched: enough for colours, cheap for any original. */
export const FACTS_PIXELS = 64;
/** Fewer pixels a side have no border and centre to speak of. */
const MIN_PIXELS = 8;
/** Share of the side that counts as border, on each side. */
const BORDER = 0.12;
/** Share of the side that counts as centre, in all. */
const CENTRE = 0.14;
/** Within 10% of equal sides a picture reads as square. */
const SQUARE_RATIO = 1.1;
/** Pixels below which a picture is small, and from which it is large. */
const SMALL_BELOW = 150_000;
const LARGE_FROM = 500_000;

/**
 * Reads a picture's facts.
 * @param rgb raw sRGB bytes, `[h, w, 3]`, of the picture stretched to `w` by `h` (see FACTS_PIXELS)
 * @throws RangeError when there are fewer than 8 pixels a side, or the byte count and the sizes disagree
 */
export function extractPictureFacts(
  rgb: Uint8Array,
  w: number,
  h: number,
  originalWidth: number,
  originalHeight: number,
): PictureFacts {
  if (w < MIN_PIXELS || h < MIN_PIXELS || rgb.length !== w * h * 3) {
    throw new RangeError(`expected at least 8x8 pixels and ${w}x${h}x3 bytes, got ${rgb.length}`);
  }
  const border: (LumaSample & { pixel: Rgb })[] = [];
  const centre: Rgb[] = [];
  let lumaSum = 0;
  let lumaSquares = 0;
  for (let row = 0; row < h; row++) {
    for (let column = 0; column < w; column++) {
      const at = (row * w + column) * 3;
      const pixel: Rgb = [rgb[at] as number, rgb[at + 1] as number, rgb[at + 2] as number];
      const luma = lumaOf(pixel);
      lumaSum += luma;
      lumaSquares += luma * luma;
      const x = (2 * (column + 0.5)) / w - 1;
      const y = (2 * (row + 0.5)) / h - 1;
      if (Math.abs(x) > 1 - 2 * BORDER || Math.abs(y) > 1 - 2 * BORDER) border.push({ x, y, luma, pixel });
      if (Math.abs(x) <= CENTRE && Math.abs(y) <= CENTRE) centre.push(pixel);
    }
  }
  const light = classifyLight(border);
  const lit = border.map(({ x, y, pixel }): Rgb => {
    const factor = lightFactor(light, x, y);
    return [pixel[0] / factor, pixel[1] / factor, pixel[2] / factor];
  });
  const backgroundColour = meanColour(lit);
  const centreColour = meanColour(centre);
  const count = w * h;
  const mean = lumaSum / count;
  return {
    width: originalWidth,
    height: originalHeight,
    orientation: orientationOf(originalWidth, originalHeight),
    size: sizeOf(originalWidth, originalHeight),
    dominantColours: dominantColours(rgb),
    objectColour: { name: nearestName(centreColour, COLOURS), hex: toHex(centreColour) },
    background: { name: nearestName(backgroundColour, BACKGROUNDS), hex: toHex(backgroundColour) },
    light,
    meanLuma: mean / 255,
    contrast: Math.sqrt(Math.max(0, lumaSquares / count - mean * mean)) / 255,
  };
}

function lumaOf([r, g, b]: Rgb): number {
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function meanColour(pixels: readonly Rgb[]): Rgb {
  const sum: Rgb = [0, 0, 0];
  for (const pixel of pixels) for (let i = 0; i < 3; i++) sum[i]! += pixel[i]!;
  return [sum[0] / pixels.length, sum[1] / pixels.length, sum[2] / pixels.length];
}

export function orientationOf(width: number, height: number): Orientation {
  if (width >= height * SQUARE_RATIO) return 'landscape';
  return height >= width * SQUARE_RATIO ? 'portrait' : 'square';
}

export function sizeOf(width: number, height: number): Size {
  const pixels = width * height;
  if (pixels < SMALL_BELOW) return 'small';
  return pixels < LARGE_FROM ? 'medium' : 'large';
}

const MAX_DOMINANT = 5;
const MIN_SHARE = 0.02;

/** Clusters by the upper three bits of each channel; a cluster's colour is its mean. */
function dominantColours(rgb: Uint8Array): DominantColour[] {
  const clusters = new Map<number, { count: number; sum: Rgb }>();
  for (let at = 0; at < rgb.length; at += 3) {
    const [r, g, b] = [rgb[at] as number, rgb[at + 1] as number, rgb[at + 2] as number];
    const key = ((r >> 5) << 6) | ((g >> 5) << 3) | (b >> 5);
    let cluster = clusters.get(key);
    if (cluster === undefined) clusters.set(key, (cluster = { count: 0, sum: [0, 0, 0] }));
    cluster.count++;
    cluster.sum[0] += r;
    cluster.sum[1] += g;
    cluster.sum[2] += b;
  }
  const total = rgb.length / 3;
  return [...clusters.values()]
    .filter(({ count }, _, all) => count / total >= MIN_SHARE || all.length === 1)
    .toSorted((a, b) => b.count - a.count)
    .slice(0, MAX_DOMINANT)
    .map(({ count, sum }) => ({
      hex: toHex([sum[0] / count, sum[1] / count, sum[2] / count]),
      share: count / total,
    }));
}

export interface DescribedPicture {
  facts: Pick<PictureFacts, 'orientation' | 'size' | 'light'> & {
    objectColour: { name: string };
    background: { name: string };
  };
  /** What the picture shows, from its alt text or metadata. Left out of the description when unknown. */
  item?: string;
  category?: string;
}

/** Line labels of a description, in order. */
const LABELS: readonly (readonly [string, Attribute])[] = [
  ['Item', 'noun'],
  ['Category', 'category'],
  ['Colour', 'colour'],
  ['Background', 'background'],
  ['Light', 'light'],
  ['Orientation', 'orientation'],
  ['Size', 'size'],
];

/** A description is one line per fact; longer alt text is cut so that the nano context holds it. */
const MAX_VALUE_CHARS = 80;

/** The words a text model gets instead of the picture: the prompt of the sample project. */
export function describePicture({ facts, item, category }: DescribedPicture): string {
  return describeAttributes({
    ...(item === undefined ? {} : { noun: item }),
    ...(category === undefined ? {} : { category }),
    ...pictureAttributes(facts),
  });
}

export function pictureAttributes(facts: DescribedPicture['facts']): Omit<Attributes, 'noun' | 'category'> {
  return {
    colour: facts.objectColour.name,
    background: facts.background.name,
    light: facts.light,
    orientation: facts.orientation,
    size: facts.size,
  };
}

export function describeAttributes(attributes: Partial<Attributes>): string {
  return LABELS.flatMap(([label, attribute]) => {
    const value = attributes[attribute]?.replace(/\s+/g, ' ').trim().slice(0, MAX_VALUE_CHARS);
    return value === undefined || value === '' ? [] : [`${label}: ${value}`];
  }).join('\n');
}

const LINE = new RegExp(`^(${LABELS.map(([label]) => label).join('|')}): (.+)$`);

/** Reads a description back out of a prompt, whatever surrounds its lines; unknown values are kept for the item only. */
export function parseDescription(prompt: string): Partial<Attributes> {
  const attributes: Partial<Attributes> = {};
  for (const line of prompt.split('\n')) {
    const match = LINE.exec(line.trim());
    if (match === null) continue;
    const attribute = LABELS.find(([label]) => label === match[1])?.[1] as Attribute;
    const value = (match[2] as string).trim();
    if (attribute === 'noun' || ATTRIBUTE_VALUES[attribute].includes(value)) attributes[attribute] = value;
  }
  return attributes;
}
