import { createHash } from 'node:crypto';
import { type ImageFacts } from '@tuneloop/contracts/ingest/events';
import { MAX_IMAGE_BYTES } from '@tuneloop/contracts/ingest/http';
import { extractPictureFacts, FACTS_PIXELS, pictureAttributes } from '@tuneloop/nano/facts';
import { AppError } from '@tuneloop/runtime/errors';
import { fileTypeFromBuffer } from 'file-type';
import sharp, { type Metadata, type Sharp, type SharpOptions } from 'sharp';
import { colourGrid, differenceHash } from './domain/perceptualHash.ts';
import { measureQuality, SHARPNESS_PIXELS } from './domain/quality.ts';
import { Limiter } from './limiter.ts';

/** Pixels of one picture, all frames together: 8000 x 8000. */
export const MAX_PIXELS = 64_000_000;
const MAX_FRAMES = 500;
/** Waiting pictures hold their bytes in memory, 10 MiB each at most. */
const MAX_WAITING = 64;
const RAW_WHITE = '#ffffff';

/** Accepted types, as the bytes tell them, with the extension of a file that came without a name. */
const TYPES = {
  'image/jpeg': { extension: 'jpg', encode: (image: Sharp) => image.jpeg({ quality: 92 }) },
  'image/png': { extension: 'png', encode: (image: Sharp) => image.png() },
  'image/webp': { extension: 'webp', encode: (image: Sharp) => image.webp({ quality: 92 }) },
  'image/gif': { extension: 'gif', encode: (image: Sharp) => image.gif() },
  // The encoder's effort is what an upload waits for: 2 of 9 takes a fraction of the default's time.
  'image/avif': { extension: 'avif', encode: (image: Sharp) => image.avif({ quality: 70, effort: 2 }) },
} as const;
type PictureType = keyof typeof TYPES;

/** A picture that was read, measured and made ready to store. */
export interface Picture {
  /** Upright, re-encoded, without any metadata. */
  readonly bytes: Buffer;
  readonly contentType: PictureType;
  readonly extension: string;
  /** Hex SHA-256 of the bytes that came. */
  readonly sourceSha256: string;
  readonly quality: number;
  readonly facts: ImageFacts;
  readonly dhash: bigint;
  readonly colourGrid: Uint8Array;
}

/** Reads outside bytes as pictures, a bounded number at a time. */
export class PictureReader {
  readonly #limiter: Limiter;

  constructor(concurrency: number) {
    this.#limiter = new Limiter({ concurrency, maxWaiting: MAX_WAITING, what: 'pictures' });
  }

  /** @throws AppError 4xx `ingest.picture.*` naming `file` for what is not a picture that is taken; 503 when busy. */
  read(bytes: Buffer): Promise<Picture> {
    return this.#limiter.run(() => readPicture(bytes));
  }
}

async function readPicture(bytes: Buffer): Promise<Picture> {
  if (bytes.length === 0) throw refused('empty', 400, 'file is empty');
  if (bytes.length > MAX_IMAGE_BYTES) throw pictureTooLarge();
  const contentType = await typeOf(bytes);
  // One thread each: the limiter decides how many pictures are at work, not the library.
  const options: SharpOptions = { limitInputPixels: MAX_PIXELS, failOn: 'error' };
  try {
    const metadata = await sharp(bytes, options).metadata();
    const frames = metadata.pages ?? 1;
    if (frames > MAX_FRAMES)
      throw refused('too_many_frames', 400, `file has ${frames} frames; the most is ${MAX_FRAMES}`);
    const [stored, measured] = [
      await encode(bytes, options, contentType, frames),
      await measure(bytes, options, metadata),
    ];
    return {
      bytes: stored,
      contentType,
      extension: TYPES[contentType].extension,
      sourceSha256: createHash('sha256').update(bytes).digest('hex'),
      ...measured,
    };
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw unreadable(contentType, error);
  }
}

/** The declared type and the name's ending say nothing; the bytes do. */
async function typeOf(bytes: Buffer): Promise<PictureType> {
  const found = (await fileTypeFromBuffer(bytes))?.mime;
  // An animated PNG is a PNG to everything that does not know better: its first frame is kept.
  const type = found === 'image/apng' ? 'image/png' : found;
  if (type !== undefined && Object.hasOwn(TYPES, type)) return type as PictureType;
  throw refused(
    'type_refused',
    415,
    `file is ${found ?? 'of no known picture type'} by its content; send JPEG, PNG, WebP, GIF or AVIF`,
  );
}

/** Upright pixels in the same format. Nothing but pixels is kept: no EXIF, GPS, XMP, IPTC, comments or thumbnails. */
async function encode(bytes: Buffer, options: SharpOptions, type: PictureType, frames: number): Promise<Buffer> {
  const animated = frames > 1 && (type === 'image/gif' || type === 'image/webp');
  const source = animated ? sharp(bytes, { ...options, animated }) : sharp(bytes, options).autoOrient();
  return TYPES[type].encode(source).toBuffer();
}

async function measure(
  bytes: Buffer,
  options: SharpOptions,
  metadata: Metadata,
): Promise<Pick<Picture, 'quality' | 'facts' | 'dhash' | 'colourGrid'>> {
  const upright = sharp(bytes, options).autoOrient();
  const { width, height } = metadata.autoOrient;
  const rgb = await upright
    .clone()
    .resize(FACTS_PIXELS, FACTS_PIXELS, { fit: 'fill' })
    .flatten({ background: RAW_WHITE })
    .toColourspace('srgb')
    .raw()
    .toBuffer();
  const luma = await upright
    .clone()
    .resize(SHARPNESS_PIXELS, SHARPNESS_PIXELS, { fit: 'inside', withoutEnlargement: true })
    .flatten({ background: RAW_WHITE })
    .toColourspace('b-w')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true });
  const facts = extractPictureFacts(rgb, FACTS_PIXELS, FACTS_PIXELS, width, height);
  const { quality } = measureQuality({
    width,
    height,
    luma: luma.data,
    lumaWidth: luma.info.width,
    lumaHeight: luma.info.height,
  });
  return {
    quality,
    dhash: differenceHash(rgb),
    colourGrid: colourGrid(rgb),
    facts: {
      width,
      height,
      dominant_colours: facts.dominantColours,
      subject_colour: facts.objectColour.hex,
      background_colour: facts.background.hex,
      luma_mean: facts.meanLuma,
      luma_deviation: facts.contrast,
      words: pictureAttributes(facts),
    },
  };
}

/** Codes of what is wrong with the picture itself: these are told by `image.rejected`. */
export const PICTURE_REFUSED = 'ingest.picture.';

function refused(what: string, status: number, message: string, cause?: unknown): AppError {
  return new AppError({ code: `${PICTURE_REFUSED}${what}`, status, message, field: 'file', retry: false, cause });
}

export function pictureTooLarge(): AppError {
  return refused('too_large', 413, `file is larger than ${MAX_IMAGE_BYTES / 1024 / 1024} MB`);
}

function unreadable(type: string, cause: unknown): AppError {
  const reason = cause instanceof Error ? cause.message : '';
  if (/pixel limit/i.test(reason)) {
    return refused('too_many_pixels', 400, `file has more than ${MAX_PIXELS / 1e6} million pixels`, cause);
  }
  return refused(
    'unreadable',
    400,
    `file begins as ${type} but cannot be read as one: it is damaged or cut off`,
    cause,
  );
}
