import sharp from 'sharp';
import { fromHex, toHex, toLab } from './colour.ts';
import { extractPictureFacts, FACTS_PIXELS, type PictureFacts } from './facts.ts';
import { DIRECTIONS, FALL_OFF } from './light.ts';
import { createRandom, type Random } from './random.ts';
import { silhouette } from './silhouettes.ts';
import {
  type Attributes,
  BACKGROUNDS,
  COLOURS,
  drawAttributes,
  type Light,
  type Orientation,
  type PairsDrawn,
  PIXEL_SIZES,
  type Size,
} from './world.ts';

/** One picture of the sample project before it is drawn. */
export interface SamplePicture {
  /** Place in the series: 0, 1, ... */
  index: number;
  attributes: Attributes;
  /** `mug-0007.png`: the item's name is all that pixels cannot tell. */
  fileName: string;
  /** Metadata a scraper would send along. */
  altText: string;
  svg: string;
}

const MAX_PICTURES = 100_000;

/** The first `count` pictures of a seed, no two with the same attributes. A longer series begins with the shorter. */
export function samplePictures(count: number, seed: number, pairs: PairsDrawn = 'all'): SamplePicture[] {
  if (!Number.isInteger(count) || count < 0 || count > MAX_PICTURES) {
    throw new RangeError(`count must be a whole number from 0 to ${MAX_PICTURES}, got ${count}`);
  }
  const random = createRandom(`pictures/${seed}`);
  const seen = new Set<string>();
  const pictures: SamplePicture[] = [];
  while (pictures.length < count) {
    const attributes = drawAttributes(random, pairs);
    const key = JSON.stringify(attributes);
    if (seen.has(key)) continue;
    seen.add(key);
    const index = pictures.length;
    pictures.push({
      index,
      attributes,
      fileName: `${attributes.noun}-${String(index).padStart(4, '0')}.png`,
      altText: attributes.noun,
      svg: pictureSvg(attributes, createRandom(`picture/${seed}/${index}`)),
    });
  }
  return pictures;
}

/** Share of the shorter side that the object spans; the rest stays background. */
const OBJECT_SHARE = 0.7;
/** Pattern marks change the background's brightness by at most this much, equally up and down. */
const PATTERN_OPACITY = 0.05;
/** Coarse unevenness of the background: without it flat pictures would pass for near-duplicates of each other. */
const MOTTLE = { columns: 10, rows: 10, opacity: 0.09 };

/** Draws attributes as SVG; `random` varies only what no fact depends on (pattern, tilt). */
export function pictureSvg(attributes: Attributes, random: Random): string {
  const [width, height] = PIXEL_SIZES[attributes.orientation as Orientation][attributes.size as Size];
  const background = BACKGROUNDS[attributes.background as keyof typeof BACKGROUNDS];
  const colour = COLOURS[attributes.colour as keyof typeof COLOURS];
  const scale = (Math.min(width, height) * OBJECT_SHARE) / 100;
  const tilt = random.int(9) - 4;
  const place = `translate(${width / 2} ${height / 2}) rotate(${tilt}) scale(${scale.toFixed(3)}) translate(-50 -50)`;
  const all = 'width="100%" height="100%"';
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">`,
    `<defs>${patternMarks(random)}${lightGradient(attributes.light as Light)}</defs>`,
    `<rect ${all} fill="${background}"/>`,
    mottle(random, width, height),
    `<rect ${all} fill="url(#pattern)"/>`,
    attributes.light === 'even' ? '' : `<rect ${all} fill="url(#light)"/>`,
    `<g transform="${place}" fill="${colour}" stroke="${outline(colour)}" stroke-width="1.6" stroke-linejoin="round">`,
    silhouette(attributes.noun, attributes.category),
    '</g></svg>',
  ].join('');
}

/** A darker edge for light colours, a lighter one for dark: the object stays visible on its own colour. */
function outline(hex: string): string {
  const rgb = fromHex(hex);
  const toward = toLab(rgb)[0] > 45 ? 0 : 255;
  return toHex([
    rgb[0] + (toward - rgb[0]) * 0.35,
    rgb[1] + (toward - rgb[1]) * 0.35,
    rgb[2] + (toward - rgb[2]) * 0.35,
  ]);
}

/**
 * A grid of faintly darker and lighter cells. Of each two neighbours one is darker, at random: no stretch of
 * background is darker as a whole, so the light stays readable.
 */
function mottle(random: Random, width: number, height: number): string {
  const { columns, rows, opacity } = MOTTLE;
  const [w, h] = [width / columns, height / rows];
  const paths = { dark: '', pale: '' };
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column += 2) {
      const darkFirst = random.int(2);
      for (const side of [0, 1]) {
        const cell = `M${((column + side) * w).toFixed(1)} ${(row * h).toFixed(1)}h${w.toFixed(1)}v${h.toFixed(1)}h-${w.toFixed(1)}z`;
        paths[side === darkFirst ? 'dark' : 'pale'] += cell;
      }
    }
  }
  return (
    `<path d="${paths.dark}" fill="#000000" fill-opacity="${opacity}"/>` +
    `<path d="${paths.pale}" fill="#ffffff" fill-opacity="${opacity}"/>`
  );
}

function patternMarks(random: Random): string {
  const kind = random.pick(['plain', 'stripes', 'checks', 'dots'] as const);
  const cell = 12 + 4 * random.int(4);
  const half = cell / 2;
  const mark = (shape: string, fill: string): string =>
    `<g fill="${fill}" fill-opacity="${PATTERN_OPACITY}">${shape}</g>`;
  const pair = (dark: string, pale: string): string => mark(dark, '#000000') + mark(pale, '#ffffff');
  const rect = (x: number, y: number, w: number, h: number): string =>
    `<rect x="${x}" y="${y}" width="${w}" height="${h}"/>`;
  const marks = {
    plain: '',
    stripes: pair(rect(0, 0, half, cell), rect(half, 0, half, cell)),
    checks: pair(
      rect(0, 0, half, half) + rect(half, half, half, half),
      rect(half, 0, half, half) + rect(0, half, half, half),
    ),
    dots: pair(
      `<circle cx="${half / 2}" cy="${half / 2}" r="${cell / 5}"/>`,
      `<circle cx="${half * 1.5}" cy="${half * 1.5}" r="${cell / 5}"/>`,
    ),
  }[kind];
  return `<pattern id="pattern" width="${cell}" height="${cell}" patternUnits="userSpaceOnUse">${marks}</pattern>`;
}

/** Black of growing opacity over the background: brightness falls exactly as `lightFactor` says. */
function lightGradient(light: Light): string {
  if (light === 'even') return '';
  const stops = `<stop offset="0" stop-color="#000" stop-opacity="0"/><stop offset="1" stop-color="#000" stop-opacity="${FALL_OFF}"/>`;
  if (light === 'spot') {
    return `<radialGradient id="light" cx="0.5" cy="0.5" r="${Math.SQRT1_2}">${stops}</radialGradient>`;
  }
  const [dx, dy] = DIRECTIONS[light] ?? [0, 0];
  const [sx, sy] = [Math.sign(dx), Math.sign(dy)];
  const ends = `x1="${(1 - sx) / 2}" y1="${(1 - sy) / 2}" x2="${(1 + sx) / 2}" y2="${(1 + sy) / 2}"`;
  return `<linearGradient id="light" ${ends}>${stops}</linearGradient>`;
}

/** PNG bytes of a sample picture. The same SVG gives the same bytes for one version of sharp. */
export async function renderPicture(picture: Pick<SamplePicture, 'svg'>): Promise<Buffer> {
  return sharp(Buffer.from(picture.svg)).flatten().png({ compressionLevel: 6 }).toBuffer();
}

/** A guard against decompression bombs: no camera makes larger pictures. */
const MAX_INPUT_PIXELS = 100_000_000;

/** Reads facts from an encoded picture (PNG, JPEG, WebP, GIF, AVIF), turned upright by its EXIF orientation. */
export async function readPictureFacts(bytes: Uint8Array): Promise<PictureFacts> {
  const upright = sharp(bytes, { limitInputPixels: MAX_INPUT_PIXELS }).autoOrient();
  const { autoOrient } = await sharp(bytes, { limitInputPixels: MAX_INPUT_PIXELS }).metadata();
  const rgb = await upright
    .resize(FACTS_PIXELS, FACTS_PIXELS, { fit: 'fill' })
    .flatten({ background: '#ffffff' })
    .toColourspace('srgb')
    .raw()
    .toBuffer();
  return extractPictureFacts(rgb, FACTS_PIXELS, FACTS_PIXELS, autoOrient.width, autoOrient.height);
}
