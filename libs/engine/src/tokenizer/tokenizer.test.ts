import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fixturePath, readFixture } from '../../fixtures/fixtures.ts';
import { StreamDecoder } from './streamDecoder.ts';
import { createTokenizer, loadTokenizerFolder } from './tokenizer.ts';

interface Expected {
  texts: { text: string; ids: number[]; decoded: string; decoded_skip: string }[];
}

const tokenizer = await loadTokenizerFolder(fixturePath('bpe'));
const { texts } = await readFixture<Expected>('bpe/expected.json');

describe('byte-level BPE', () => {
  it.each(texts)('encodes and decodes as the Python package: $text', ({ text, ids, decoded, decoded_skip }) => {
    expect(tokenizer.encode(text)).toEqual(ids);
    expect(tokenizer.decode(ids, { keepSpecialTokens: true })).toBe(decoded);
    expect(tokenizer.decode(ids)).toBe(decoded_skip);
  });

  it('knows its special tokens', () => {
    expect(tokenizer.eosTokenId).toBe(tokenizer.tokenId('<|im_end|>'));
    expect(tokenizer.namedTokens).toMatchObject({ bos_token: '<|im_start|>' });
    expect(tokenizer.vocabSize).toBe(420);
  });

  it('refuses a tokenizer it does not know', () => {
    expect(() => createTokenizer({ model: { type: 'Nonsense' } })).toThrow(
      expect.objectContaining({ code: 'engine.tokenizer.unsupported' }),
    );
  });

  it('says which file is missing', async () => {
    await expect(loadTokenizerFolder(fixturePath('adapter'))).rejects.toThrow(/tokenizer\.json/);
  });
});

describe('StreamDecoder', () => {
  it('gives the whole text in pieces of whole characters', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), (text) => {
        const decoder = new StreamDecoder(tokenizer);
        const pieces = tokenizer.encode(text).map((id) => decoder.push(id));
        expect(pieces.some((piece) => piece.includes('\uFFFD'))).toBe(text.includes('\uFFFD'));
        expect(pieces.join('') + decoder.end()).toBe(tokenizer.decode(tokenizer.encode(text)));
      }),
      { numRuns: 100 },
    );
  });

  it('gives an unfinished character as U+FFFD at the end', () => {
    const ids = tokenizer.encode('🙂');
    expect(ids.length).toBeGreaterThan(1);
    const decoder = new StreamDecoder(tokenizer);
    expect(
      ids
        .slice(0, -1)
        .map((id) => decoder.push(id))
        .join(''),
    ).toBe('');
    expect(decoder.end()).toContain('\uFFFD');
  });
});
