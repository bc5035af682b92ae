import { describe, expect, it } from 'vitest';
import { fixturePath, readFixture } from '../../fixtures/fixtures.ts';
import type { GgufValue } from '../weights/gguf.ts';
import { loadTokenizerGguf, tokenizerFromGguf } from './fromGguf.ts';

interface Expected {
  text: string;
  ids: number[];
  decoded: string;
}

describe('a SentencePiece vocabulary', async () => {
  const tokenizer = await loadTokenizerGguf(fixturePath('gguf/spm.gguf'));

  it.each(await readFixture<Expected[]>('gguf/spm.json'))(
    'is used as sentencepiece uses it: $text',
    ({ text, ids, decoded }) => {
      expect(tokenizer.encode(text)).toEqual(ids);
      expect(tokenizer.decode(ids)).toBe(decoded);
    },
  );

  it('begins with BOS where asked, as files of this kind do when they say nothing', () => {
    const ids = tokenizer.encode('the lamp', { addSpecialTokens: true });
    expect(ids).toEqual([1, ...tokenizer.encode('the lamp')]);
    expect(tokenizer.namedTokens).toEqual({ bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>' });
    expect(tokenizer.eosTokenId).toBe(2);
  });
});

describe('what is not known is refused by name', () => {
  const byteLevel: [string, GgufValue][] = [
    ['tokenizer.ggml.model', 'gpt2'],
    ['tokenizer.ggml.pre', 'smollm'],
    ['tokenizer.ggml.tokens', ['a', 'b', 'ab']],
    ['tokenizer.ggml.merges', ['a b']],
  ];

  it.each<[string, GgufValue, RegExp]>([
    ['tokenizer.ggml.model', 'bert', /model is bert \(supported: gpt2, llama\)/],
    ['tokenizer.ggml.pre', 'viking', /pre is viking \(supported: gpt-2, smollm/],
    ['tokenizer.ggml.token_type', [1, 1], /2 entries for 3 tokens/],
    ['tokenizer.ggml.tokens', [], /tokens is missing/],
  ])('%s', (key, value, message) => {
    expect(tokenizerFromGguf(new Map(byteLevel)).encode('ab')).toEqual([2]);
    const broken = (): unknown => tokenizerFromGguf(new Map([...byteLevel, [key, value]]));
    expect(broken).toThrow(message);
    expect(broken).toThrow(expect.objectContaining({ code: 'engine.tokenizer.unsupported' }));
  });
});
