import { readFileSync } from 'node:fs';
import { Tokenizer } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createBpeCodec, toTokenizerJson, trainBpe } from './bpe.ts';
import { formatAnswer, formatPrompt, SPECIAL_TOKENS } from './chatFormat.ts';
import { corpus } from './corpus.ts';
import { VOCABULARY } from './recipe.ts';

const read = (name: string): unknown => JSON.parse(readFileSync(new URL(`../base/${name}`, import.meta.url), 'utf8'));
const committed = read('tokenizer.json') as { model: { vocab: Record<string, number>; merges: [string, string][] } };
const reference = new Tokenizer(committed, read('tokenizer_config.json'));
const tokens = Object.entries(committed.model.vocab).map(([token, id]) => ({ token, id }));
const codec = createBpeCodec({
  tokens: tokens.toSorted((a, b) => a.id - b.id).map(({ token }) => token),
  merges: committed.model.merges,
  specials: SPECIAL_TOKENS,
});

describe('the committed tokenizer', () => {
  test('has 768 tokens and encodes the corpus as Hugging Face does', () => {
    expect(tokens.length).toBe(VOCABULARY);
    for (const { system, user, answer } of corpus(21, 300)) {
      const text = formatPrompt(user, system) + formatAnswer(answer);
      expect(codec.encode(text)).toEqual([...reference.encode(text).ids]);
    }
  });

  test('gives any text back, and encodes it as Hugging Face does', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.string({ unit: 'grapheme' })), (text) => {
        const ids = codec.encode(text);
        expect(codec.decode(ids)).toBe(text.toWellFormed());
        expect(ids).toEqual([...reference.encode(text).ids]);
      }),
      { numRuns: 300 },
    );
  });
});

test('training merges the most frequent pair first and stops at the size asked for', () => {
  const bpe = trainBpe(['low low low low lower new'], 260, ['<|end|>']);
  expect(bpe.tokens.length).toBe(260);
  expect(bpe.merges).toEqual([
    ['l', 'o'],
    ['lo', 'w'],
    ['Ġ', 'low'],
  ]);
  const small = createBpeCodec(bpe);
  expect(small.decode(small.encode('low lower<|end|>'))).toBe('low lower<|end|>');
  expect(toTokenizerJson(bpe)).toMatchObject({ model: { type: 'BPE', vocab: { '<|end|>': 0 } } });
});
