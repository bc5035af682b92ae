import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { coerceQuery } from './coerceQuery.ts';
import { jsonErrorPosition, parseJsonBody } from './jsonBody.ts';

/** Where V8 says that a text stops being JSON; undefined for JSON and where it does not say. */
function positionByV8(text: string): number | undefined {
  try {
    JSON.parse(text);
    return undefined;
  } catch (error) {
    const named = /at position (\d+)/.exec(String(error))?.[1];
    return named === undefined ? undefined : Number(named);
  }
}

describe('jsonErrorPosition', () => {
  it('agrees with V8 wherever V8 names a position', () => {
    const insert = fc.constantFrom('', ',', '}', ']', '"', 'x', ':', '1', ' ');
    let compared = 0;
    fc.assert(
      fc.property(fc.json(), fc.nat(), insert, (text, at, inserted) => {
        const cut = at % (text.length + 1);
        const broken = text.slice(0, cut) + inserted + text.slice(cut + 1);
        const theirs = positionByV8(broken);
        fc.pre(theirs !== undefined);
        compared++;
        const ours = jsonErrorPosition(broken);
        // A broken string, number or word is named by its first character here, by the one within it there.
        const scalar = /^["\w.+-]/.test(broken.slice(ours));
        expect(scalar ? ours <= theirs : ours === theirs, `${broken}: ${ours}, V8 ${theirs}`).toBe(true);
      }),
      { numRuns: 500 },
    );
    expect(compared).toBe(500);
  });
});

describe('parseJsonBody', () => {
  it('gives what JSON.parse gives', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 5 }), (text) => {
        fc.pre(!text.includes('__proto__') && !text.includes('\\u0000'));
        expect(parseJsonBody(text)).toEqual(JSON.parse(text));
      }),
      { numRuns: 200 },
    );
    expect(parseJsonBody('\ufeff{"a":1}')).toEqual({ a: 1 });
    expect(parseJsonBody(' \n')).toBeUndefined();
  });
});

describe('coerceQuery', () => {
  const schema = z.object({
    n: z.number().optional(),
    d: z.coerce.number().default(5),
    b: z.boolean().nullable().optional(),
    s: z.string().optional(),
    list: z.array(z.number()).optional(),
    e: z.enum(['1', '2']).optional(),
    p: z.number().pipe(z.number().int()).optional(),
  });
  it('makes of texts what the contract wants, and leaves the rest to fail by name', () => {
    expect(
      coerceQuery(schema, { n: '1.5', d: '7', b: 'false', s: '12', list: '3', e: '1', p: '4', more: '1' }),
    ).toEqual({ n: 1.5, d: 7, b: false, s: '12', list: [3], e: '1', p: 4, more: '1' });
    expect(coerceQuery(schema, { n: '', b: 'yes', list: ['1', 'x'], s: ['a', 'b'] })).toEqual({
      n: '',
      b: 'yes',
      list: [1, 'x'],
      s: ['a', 'b'],
    });
    expect(coerceQuery(schema, { n: 'Infinity' })).toEqual({ n: 'Infinity' });
  });
});
