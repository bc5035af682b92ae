import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fixturePath, readFixture } from '../../fixtures/fixtures.ts';
import type { GgufValue } from '../weights/gguf.ts';
import { writeGguf } from '../weights/ggufEncode.ts';
import { loadTokenizerGguf, tokenizerFromGguf } from './fromGguf.ts';
import { ggufTokenizerEntries } from './toGguf.ts';
import { createTokenizer, readTokenizerFiles } from './tokenizer.ts';

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

interface Family {
  texts: { text: string; ids: number[]; decoded: string }[];
}

const FAMILIES = ['llama2', 'llama3', 'mistral', 'mistral-nemo', 'qwen', 'smollm2', 'tinyllama'];

describe('through a file', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tokenizers-'));
  });
  afterAll(async () => {
    await rm(folder, { recursive: true });
  });

  it.each(FAMILIES)('%s cuts and joins texts as before', async (family) => {
    const files = await readTokenizerFiles(fixturePath(`families/${family}`));
    const original = createTokenizer(files.json, files.config);
    const path = join(folder, `${family}.gguf`);
    await writeGguf(path, ggufTokenizerEntries(files, original.vocabSize + 3), []);
    const tokenizer = await loadTokenizerGguf(path);
    const { texts } = await readFixture<Family>(`families/${family}/expected.json`);
    for (const { text, ids } of texts) {
      // Mistral's tokenizer.json puts a space before the text alone, and before none that has one; SentencePiece and
      // llama.cpp always do, after special tokens too. Files cannot tell which.
      if (family === 'mistral' && /^[ ▁]|\[\/?INST\]|<\/?s>|<unk>/.test(text)) continue;
      expect(tokenizer.encode(text), text).toEqual(ids);
      expect(tokenizer.decode(ids), text).toBe(original.decode(ids));
      const special = { addSpecialTokens: true };
      expect(tokenizer.encode(text, special), text).toEqual(original.encode(text, special));
    }
    expect(tokenizer.chatTemplate).toBe(original.chatTemplate);
    expect(tokenizer.namedTokens).toEqual(original.namedTokens);
  });
});
