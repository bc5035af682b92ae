import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { promptGroup } from './hashes.ts';
import { storableJson, storableText } from './storable.ts';
import { parseImmutableName, pickTarget } from './target.ts';
import { DEFAULT_TEMPLATES, pictureValues, renderTemplate, unknownPlaceholders } from './template.ts';

const target = (model: string, weight: number) => ({
  checkpoint_id: null,
  base_model: model,
  storage_key: null,
  weight,
});

describe('pickTarget', () => {
  it('gives each side its share of users and never one without weight', () => {
    const targets = [target('none', 0), target('a', 3), target('b', 1)];
    const counts = new Map<string, number>();
    for (let i = 0; i < 4000; i++) {
      const { base_model } = pickTarget(targets, { projectId: 'p', slot: 's', user: `u${i}` }, 0);
      counts.set(base_model, (counts.get(base_model) ?? 0) + 1);
    }
    expect(counts.get('none')).toBeUndefined();
    // Five standard deviations of a binomial share of 0.75 over 4000 users are 0.034.
    expect(Math.abs((counts.get('a') ?? 0) / 4000 - 0.75)).toBeLessThan(0.034);
  });

  it('moves only users of the side that shrinks when weights change', () => {
    const before = [target('a', 0.5), target('b', 0.5)];
    const after = [target('a', 0.8), target('b', 0.2)];
    const moves = new Set<string>();
    for (let i = 0; i < 500; i++) {
      const sticky = { projectId: 'p', slot: 's', user: `u${i}` };
      const [was, is] = [before, after].map((targets) => pickTarget(targets, sticky, 0).base_model);
      moves.add(`${was} to ${is}`);
    }
    expect([...moves].toSorted()).toEqual(['a to a', 'b to a', 'b to b']);
  });

  it('answers with some target whatever the weights and the draw', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 8 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (weights, random) => {
          const targets = weights.map((weight, i) => target(String(i), weight));
          const picked = pickTarget(targets, { projectId: 'p', slot: 's', user: null }, random);
          expect(picked.weight > 0 || weights.every((weight) => weight === 0)).toBe(true);
        },
      ),
    );
  });
});

describe('templates', () => {
  it('hold only placeholders that there is', () => {
    for (const { body, system } of Object.values(DEFAULT_TEMPLATES)) {
      expect(unknownPlaceholders(`${body}\n${system ?? ''}`)).toEqual([]);
    }
    expect(unknownPlaceholders('{{ facts.mood }} {{width}} {{x}} {{')).toEqual(['{{x}}', '{{']);
  });

  it('let no value add a line, and leave out lines without a value', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (altText, context) => {
        const values = pictureValues({ category: 'c', altText, context, quality: 1, width: 1, height: 1, words: {} });
        const text = renderTemplate('A {{alt_text|10}}\nB {{context}}\nC {{facts.colour}}\nD', values);
        const lines = text.split('\n');
        expect(lines.length).toBeLessThanOrEqual(3);
        expect(lines.at(-1)).toBe('D');
        for (const line of lines) expect(line).toMatch(/^[ABD]/);
      }),
    );
  });
});

describe('names and texts', () => {
  it('reads exact names', () => {
    const id = '0190f5a2-7b3c-7def-8123-456789abcdef';
    expect(parseImmutableName(`org/nano:ckpt-${id}`)).toEqual({ model: 'org/nano', checkpointId: id });
    expect(parseImmutableName('nano:base')).toEqual({ model: 'nano', checkpointId: null });
    for (const name of ['nano', 'nano:ckpt-1', ':base', 'ft:nano:p::x'])
      expect(parseImmutableName(name)).toBeUndefined();
  });

  it('makes any text storable', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 0xffff })), (units) => {
        const text = String.fromCharCode(...units);
        const stored = storableText(`${text}\0\ud800`);
        expect(stored.isWellFormed()).toBe(true);
        expect(stored).not.toContain('\0');
        expect(JSON.parse(storableJson({ a: [`\ud800${text}`] }))).toEqual({ a: [storableText(`\ud800${text}`)] });
      }),
    );
  });

  it('groups prompts by what they say', () => {
    expect(promptGroup(' A  Red\nMug ')).toBe(promptGroup('a red mug'));
    expect(promptGroup('a red mug')).not.toBe(promptGroup('a blue mug'));
  });
});
