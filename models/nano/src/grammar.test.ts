import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseCaption, STYLES, writeCaption } from './grammar.ts';
import { createRandom } from './random.ts';
import { type Attribute, ATTRIBUTE_NAMES, drawAttributes, isHeldOut } from './world.ts';

const drawing = fc.record({ seed: fc.nat(), style: fc.constantFrom(...STYLES) });

describe('captions', () => {
  test('are read back as written: style, and every stated attribute with its value', () => {
    fc.assert(
      fc.property(drawing, ({ seed, style }) => {
        const random = createRandom(seed);
        const attributes = drawAttributes(random);
        const parsed = parseCaption(writeCaption(random, attributes, { style }).text);
        expect(parsed.style).toBe(style);
        expect(parsed.stated.noun).toEqual([attributes.noun]);
        expect(parsed.stated.colour).toEqual([attributes.colour]);
        for (const attribute of ATTRIBUTE_NAMES) {
          expect(parsed.stated[attribute] ?? [attributes[attribute]]).toEqual([attributes[attribute]]);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('that are corrupted state exactly one wrong value, still within the grammar', () => {
    fc.assert(
      fc.property(drawing, ({ seed, style }) => {
        const random = createRandom(seed);
        const attributes = drawAttributes(random);
        const { text, corrupted } = writeCaption(random, attributes, { style, corrupt: true });
        const { stated, style: read } = parseCaption(text);
        const wrong = (Object.keys(stated) as Attribute[]).filter((name) => stated[name]?.[0] !== attributes[name]);
        expect(read).toBe(style);
        expect(wrong).toEqual([corrupted]);
      }),
      { numRuns: 500 },
    );
  });

  test('take the article that their next word asks for', () => {
    const random = createRandom(3);
    for (let i = 0; i < 2000; i++) {
      const { text } = writeCaption(random, drawAttributes(random));
      expect(text).not.toMatch(/\ba [aeiou]|\ban [^aeiou]/i);
    }
  });

  test('outside the grammar have no style, but their claims are still read', () => {
    const parsed = parseCaption('teal mug mug on on an sky background, light from the upper left');
    expect(parsed.style).toBeUndefined();
    expect(parsed.stated).toEqual({ noun: ['mug'], colour: ['teal'], background: ['sky'], light: ['upper left'] });
    expect(parseCaption('').words).toBe(0);
  });
});

test('pairs held out of training are about 12% and are never drawn for it', () => {
  const random = createRandom(5);
  let heldOut = 0;
  for (let i = 0; i < 4000; i++) {
    const any = drawAttributes(random);
    if (isHeldOut(any.colour, any.noun)) heldOut++;
    const trained = drawAttributes(random, 'trained');
    expect(isHeldOut(trained.colour, trained.noun)).toBe(false);
  }
  expect(heldOut / 4000).toBeGreaterThan(0.09);
  expect(heldOut / 4000).toBeLessThan(0.15);
});
