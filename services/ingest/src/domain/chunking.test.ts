import { fileURLToPath } from 'node:url';
import { loadTokenizerFolder } from '@tuneloop/engine/tokenizer/tokenizer';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Block } from '../extract/blocks.ts';
import { type Chunk, chunkBlocks } from './chunking.ts';

const tokenizer = await loadTokenizerFolder(fileURLToPath(new URL('../../../../models/nano/base', import.meta.url)));
const countTokens = (text: string): number => tokenizer.encode(text).length;
const chunked = (blocks: readonly Block[], maxTokens: number, overlapTokens = 0): Chunk[] =>
  chunkBlocks(blocks, { maxTokens, overlapTokens, countTokens });

const sentence = 'The wheel turns between the pads. ';
const paragraph = (times: number): Block => ({ kind: 'paragraph', text: sentence.repeat(times).trim() });
const heading = (level: number, text: string): Block => ({ kind: 'heading', level, text });

describe('chunks', () => {
  it('keep the headings above them, and begin anew at a heading', () => {
    const chunks = chunked(
      [heading(1, 'Manual'), heading(2, 'Wheels'), paragraph(5), heading(2, 'Brakes'), paragraph(5)],
      150,
    );
    expect(chunks.map((chunk) => chunk.headingPath)).toEqual([
      ['Manual', 'Wheels'],
      ['Manual', 'Brakes'],
    ]);
    expect(chunks.every((chunk) => !chunk.text.includes('#'))).toBe(true);
  });

  it('put small sections together under what they share, with their headings in the text', () => {
    const chunks = chunked([heading(1, 'Manual'), heading(2, 'A'), paragraph(1), heading(2, 'B'), paragraph(1)], 200);
    expect(chunks).toHaveLength(1);
    expect(chunks[0]).toMatchObject({ headingPath: ['Manual'] });
    expect(chunks[0]?.text).toBe(`## A\n\n${sentence.trim()}\n\n## B\n\n${sentence.trim()}`);
  });

  it('never cut a row, and repeat the header of a table in each part', () => {
    const rows = [['Part', 'Torque'], ...Array.from({ length: 40 }, (_, i) => [`bolt ${i}`, `${i} newton metres`])];
    const chunks = chunked([{ kind: 'table', rows, header: true }], 120);
    expect(chunks.length).toBeGreaterThan(3);
    for (const chunk of chunks) expect(chunk.text.startsWith('| Part | Torque |\n| --- | --- |\n| bolt')).toBe(true);
    const seen = chunks.flatMap((chunk) => chunk.text.split('\n').slice(2));
    expect(seen).toEqual(rows.slice(1).map((row) => `| ${row.join(' | ')} |`));
  });

  it('leave one row whole even where it is longer than a chunk', () => {
    const rows = [
      ['a', 'b'],
      ['x', 'many words in one cell '.repeat(30).trim()],
    ];
    const [chunk, ...others] = chunked([{ kind: 'table', rows, header: true }], 64);
    expect(others).toEqual([]);
    expect(chunk!.tokens).toBeGreaterThan(64);
  });

  it('repeat the end of the chunk before, as much as was asked for, and only within a section', () => {
    const words = Array.from({ length: 30 }, (_, i) => `This is sentence number ${i}.`).join(' ');
    const chunks = chunked(
      [heading(1, 'A'), { kind: 'paragraph', text: words }, heading(1, 'B'), paragraph(6)],
      120,
      40,
    );
    expect(chunks[0]!.overlapChars).toBe(0);
    const second = chunks[1]!;
    expect(second.overlapChars).toBeGreaterThan(0);
    expect(chunks[0]!.text.endsWith(second.text.slice(0, second.overlapChars))).toBe(true);
    expect(countTokens(second.text.slice(0, second.overlapChars))).toBeLessThanOrEqual(40);
    expect(chunks.find((chunk) => chunk.headingPath[0] === 'B')!.overlapChars).toBe(0);
  });

  it('say which pages they are from', () => {
    const [chunk] = chunked(
      [
        { ...paragraph(1), page: 3 },
        { ...paragraph(1), page: 4 },
      ],
      400,
    );
    expect(chunk).toMatchObject({ pageFrom: 3, pageTo: 4 });
  });

  const word = fc.stringMatching(/^[a-zé0-9]{1,12}$/);
  const words = fc.array(word, { minLength: 1, maxLength: 60 }).map((list) => list.join(' '));
  const block: fc.Arbitrary<Block> = fc.oneof(
    fc.record({ kind: fc.constant('heading' as const), level: fc.integer({ min: 1, max: 4 }), text: word }),
    fc.record({ kind: fc.constant('paragraph' as const), text: words.map((text) => `${text}. ${text}!`) }),
    fc.record({ kind: fc.constant('list' as const), items: fc.array(words, { minLength: 1, maxLength: 5 }) }),
    fc.record({ kind: fc.constant('code' as const), text: words }),
  );
  it('hold every word once and in order, within the size, for any document', () => {
    fc.assert(
      fc.property(fc.array(block, { maxLength: 12 }), fc.integer({ min: 32, max: 200 }), (blocks, size) => {
        const chunks = chunked(blocks, size);
        for (const chunk of chunks) {
          expect(chunk.tokens).toBe(countTokens(chunk.text));
          expect(chunk.tokens).toBeLessThanOrEqual(size);
        }
        const given = blocks.flatMap((item) =>
          item.kind === 'heading'
            ? []
            : ('text' in item ? item.text : 'items' in item ? item.items.join(' ') : '').split(' '),
        );
        const found = chunks.flatMap((chunk) =>
          chunk.text.split('\n').flatMap((line) => (line.startsWith('#') ? [] : line.split(' '))),
        );
        expect(found.join('')).toBe(given.join(''));
      }),
      { numRuns: 150 },
    );
  });

  it('leave out the headings of empty sections before they grow too large', () => {
    const text = 'a oé00é 1é000 a aaaa0é0. a oé00é 1é000 a aaaa0é0!';
    const chunks = chunked([heading(1, 'a'), heading(2, 'é'), heading(1, 'a'), { kind: 'paragraph', text }], 32);
    for (const chunk of chunks) expect(chunk.tokens).toBeLessThanOrEqual(32);
    expect(chunks.map((chunk) => chunk.text).join(' ')).toContain('aaaa0é0!');
  });

  it('hold every word with an overlap too, once what is repeated is taken off', () => {
    fc.assert(
      fc.property(fc.array(words, { minLength: 1, maxLength: 8 }), (texts) => {
        const sentences = texts.map((text) => `${text}. Then ${text}.`);
        const chunks = chunked(
          sentences.map((text) => ({ kind: 'paragraph', text })),
          80,
          30,
        );
        const found = chunks.map((chunk) => chunk.text.slice(chunk.overlapChars)).join('');
        expect(found.replace(/\s/g, '')).toBe(sentences.join('').replace(/\s/g, ''));
        for (const chunk of chunks) expect(chunk.tokens).toBeLessThanOrEqual(80);
      }),
      { numRuns: 80 },
    );
  });
});
