import { fileName } from '@tuneloop/contracts/ingest/http';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nameOfUrl } from './naming.ts';

describe('nameOfUrl', () => {
  it.each([
    ['https://example.com/a/red%20mug.png?x=1#y', 'red mug.png'],
    ['https://example.com', 'file'],
    ['https://example.com/a/', 'file'],
    ['https://example.com/%2e%2e%2fetc%2fpasswd', '.-etc-passwd'],
    ['https://example.com/%zz.png', '%zz.png'],
    ['https://example.com/a%00b', 'a-b'],
    ['https://example.com/a.....png', 'a.png'],
  ])('reads %s', (url, name) => expect(nameOfUrl(url)).toBe(name));

  it('is always a name that an upload could have', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (tail) => {
        const name = nameOfUrl(`https://example.com/a/${encodeURIComponent(tail.toWellFormed())}`);
        expect([name, fileName.safeParse(name).success, name.isWellFormed()]).toEqual([name, true, true]);
      }),
    );
  });
});
