/**
 * Trains the nano tokenizer on the caption corpus and writes `tokenizer.json` and `tokenizer_config.json`
 * into models/nano/base. Deterministic: run twice, it writes the same bytes.
 *
 *   node models/nano/bin/trainTokenizer.ts
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { toTokenizerJson, trainBpe } from '../src/bpe.ts';
import { CHAT_TEMPLATE, END, formatAnswer, formatPrompt, SPECIAL_TOKENS } from '../src/chatFormat.ts';
import { corpus } from '../src/corpus.ts';
import { MAX_POSITIONS, VOCABULARY } from '../src/recipe.ts';

const TEXTS = 20_000;
const SEED = 1;

function* texts(): Generator<string> {
  for (const { system, user, answer } of corpus(SEED, TEXTS)) {
    // Special tokens are split off before words are counted.
    yield* `${formatPrompt(user, system)}${formatAnswer(answer)}`.split(/<\|[a-z]+\|>/);
  }
}

const bpe = trainBpe(texts(), VOCABULARY, SPECIAL_TOKENS);
const base = new URL('../base/', import.meta.url);
mkdirSync(base, { recursive: true });
const write = (name: string, value: unknown): void =>
  writeFileSync(new URL(name, base), `${JSON.stringify(value, null, 1)}\n`);
write('tokenizer.json', toTokenizerJson(bpe));
write('tokenizer_config.json', {
  tokenizer_class: 'PreTrainedTokenizerFast',
  model_max_length: MAX_POSITIONS,
  eos_token: END,
  pad_token: END,
  clean_up_tokenization_spaces: false,
  chat_template: CHAT_TEMPLATE,
});
console.log(`wrote ${bpe.tokens.length} tokens, ${bpe.merges.length} merges to ${base.pathname}`);
