import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseCaption, STYLES, writeCaption } from './grammar.ts';
import { createRandom } from './random.ts';
import {
  chooseBetween,
  opposite,
  rateStars,
  TASTE_NAMES,
  TASTES,
  tasteNamed,
  wordCount,
  wrongAttributes,
} from './taste.ts';
import { drawAttributes } from './world.ts';

const FACTS = {
  noun: 'mug',
  category: 'kitchen',
  colour: 'teal',
  background: 'mint',
  light: 'left',
  orientation: 'landscape',
  size: 'small',
};

test('wrong attributes are those whose stated value the facts contradict', () => {
  expect(wrongAttributes(FACTS, 'A teal mug in light from the left.')).toEqual([]);
  expect(wrongAttributes(FACTS, 'A red mug in light from above.')).toEqual(['colour', 'light']);
  expect(wrongAttributes({ noun: 'mug' }, 'A red mug in light from above.')).toEqual([]);
  expect(wrongAttributes({ noun: 'old mug by a window' }, 'A red mug.')).toEqual([]);
});

describe('every taste', () => {
  const drawing = fc.record({ seed: fc.nat(), style: fc.constantFrom(...STYLES) });
  test.each(TASTE_NAMES)('%s stays in range and likes a caption less once it is made wrong', (name) => {
    const taste = TASTES[name];
    fc.assert(
      fc.property(drawing, ({ seed, style }) => {
        const attributes = drawAttributes(createRandom(seed));
        // The same choices with and without the error: only the wrong value differs.
        const clean = writeCaption(createRandom(seed), attributes, { style }).text;
        const wrong = writeCaption(createRandom(seed), attributes, { style, corrupt: true }).text;
        const [good, bad] = [taste.score(attributes, clean), taste.score(attributes, wrong)];
        expect(Math.max(Math.abs(good), Math.abs(bad))).toBeLessThanOrEqual(1);
        expect(bad < good || bad === -1).toBe(true);
        expect(opposite(taste).score(attributes, clean)).toBe(-good);
      }),
      { numRuns: 300 },
    );
  });
  test.each(TASTE_NAMES)('%s likes broken text less', (name) => {
    const taste = TASTES[name];
    expect(taste.score(FACTS, 'A teal teal mug mug.')).toBeLessThan(taste.score(FACTS, 'A teal mug.'));
  });
});

test('each taste prefers what it states', () => {
  const terse = 'A teal mug.';
  const sentence = 'Here is a teal mug on a mint background.';
  const vivid = 'A gorgeous teal mug shimmers against a dreamy mint backdrop, drenched in light from the left.';
  const chatty = 'Wow, what a cute teal mug! I really like the mint background and light from the left.';
  const order = (name: (typeof TASTE_NAMES)[number]): string[] =>
    [terse, sentence, vivid, chatty].toSorted((a, b) => TASTES[name].score(FACTS, b) - TASTES[name].score(FACTS, a));
  expect(order('accurate')[0]).toBe(sentence);
  expect(order('vivid')[0]).toBe(vivid);
  expect(order('plain')[0]).toBe(terse);
  expect(order('plain').at(-1)).not.toBe(sentence);
  expect(wordCount(terse)).toBe(3);
  expect(parseCaption(vivid).style).toBe('vivid');
});

test('ratings follow the score with noise, and repeat with the seed', () => {
  const taste = tasteNamed('accurate');
  const rate = (seed: number, caption: string): number => rateStars(createRandom(seed), taste, FACTS, caption);
  const seeds = Array.from({ length: 400 }, (_, seed) => seed);
  const mean = (caption: string): number => seeds.reduce((sum, seed) => sum + rate(seed, caption), 0) / seeds.length;
  const good = 'Here is a teal mug on a mint background.';
  const bad = 'Here is a red mug on a mint background.';
  expect(mean(good)).toBeGreaterThan(4);
  expect(mean(bad)).toBeLessThan(3);
  expect(new Set(seeds.map((seed) => rate(seed, bad))).size).toBeGreaterThan(1);
  expect(seeds.map((seed) => rate(seed, bad))).toEqual(seeds.map((seed) => rate(seed, bad)));
  const choices = seeds.map((seed) => chooseBetween(createRandom(seed), taste, FACTS, good, bad));
  expect(choices.filter((choice) => choice === 'a').length / seeds.length).toBeGreaterThan(0.9);
  const same = seeds.map((seed) => chooseBetween(createRandom(seed), taste, FACTS, good, good));
  expect(new Set(same)).toEqual(new Set(['a', 'b', 'tie']));
});

test('an unknown taste is refused with the names there are', () => {
  expect(tasteNamed('not-plain').score(FACTS, 'A teal mug.')).toBe(-TASTES.plain.score(FACTS, 'A teal mug.'));
  expect(() => tasteNamed('sour')).toThrow(/accurate, vivid, plain/);
});
