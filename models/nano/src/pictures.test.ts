import sharp from 'sharp';
import { expect, test } from 'vitest';
import { describePicture, extractPictureFacts, parseDescription, pictureAttributes } from './facts.ts';
import { readPictureFacts, renderPicture, samplePictures } from './pictures.ts';
import { createRandom } from './random.ts';
import { ATTRIBUTE_NAMES } from './world.ts';

const COUNT = 500;

test('the pixels of 500 pictures tell the attributes they were drawn from', { timeout: 120_000 }, async () => {
  const pictures = samplePictures(COUNT, 11);
  let right = 0;
  const missed: string[] = [];
  for (const picture of pictures) {
    const facts = await readPictureFacts(await renderPicture(picture));
    const { noun, category } = picture.attributes;
    const read = parseDescription(describePicture({ facts, item: noun, category }));
    const wrong = ATTRIBUTE_NAMES.filter((name) => read[name] !== picture.attributes[name]);
    if (wrong.length === 0) right++;
    else missed.push(`${picture.fileName}: ${wrong.join(', ')}`);
  }
  expect(missed.length / COUNT).toBeLessThan(0.01);
  expect(right + missed.length).toBe(COUNT);
});

test('the same holds after a lossy JPEG and WebP', { timeout: 60_000 }, async () => {
  for (const picture of samplePictures(30, 12)) {
    const png = await renderPicture(picture);
    for (const lossy of [sharp(png).jpeg({ quality: 75 }), sharp(png).webp({ quality: 75 })]) {
      const facts = await readPictureFacts(await lossy.toBuffer());
      expect(picture.attributes).toMatchObject(pictureAttributes(facts));
    }
  }
});

test('a series is distinct, repeatable, and begins like every longer one', async () => {
  const long = samplePictures(200, 4);
  expect(samplePictures(50, 4)).toEqual(long.slice(0, 50));
  expect(new Set(long.map((picture) => JSON.stringify(picture.attributes))).size).toBe(200);
  expect(samplePictures(50, 5)).not.toEqual(long.slice(0, 50));
  const first = long[0]!;
  expect(await renderPicture(first)).toEqual(await renderPicture(first));
});

test('a picture changed in content changes its description', async () => {
  const picture = samplePictures(1, 9)[0]!;
  const bytes = await renderPicture(picture);
  const turned = await sharp(bytes).negate({ alpha: false }).toBuffer();
  const before = describePicture({ facts: await readPictureFacts(bytes), item: 'mug' });
  const after = describePicture({ facts: await readPictureFacts(turned), item: 'mug' });
  expect(after).not.toBe(before);
});

test('facts of any pixels are well formed', () => {
  const random = createRandom(2);
  for (const [w, h] of [
    [64, 64],
    [8, 8],
    [31, 12],
  ] as const) {
    const noise = Uint8Array.from({ length: w * h * 3 }, () => random.int(256));
    const facts = extractPictureFacts(noise, w, h, 1200, 800);
    expect(facts).toMatchObject({ width: 1200, height: 800, orientation: 'landscape', size: 'large' });
    expect(facts.objectColour.hex).toMatch(/^#[0-9a-f]{6}$/);
    expect(facts.dominantColours.length).toBeLessThanOrEqual(5);
  }
  expect(extractPictureFacts(new Uint8Array(192), 8, 8, 10, 10)).toMatchObject({ light: 'even', meanLuma: 0 });
  expect(() => extractPictureFacts(new Uint8Array(191), 8, 8, 8, 8)).toThrow(RangeError);
  expect(() => extractPictureFacts(new Uint8Array(12), 2, 2, 2, 2)).toThrow(RangeError);
});
