/** Tokenizers and chat templates built like those of each family, against Transformers (`fixtures/make_families.py`). */
import { describe, expect, it } from 'vitest';
import { fixturePath, readFixture } from '../../fixtures/fixtures.ts';
import { StreamDecoder } from '../tokenizer/streamDecoder.ts';
import { loadTokenizerFolder } from '../tokenizer/tokenizer.ts';
import { type ChatMessage, createChatFormat } from './chatFormat.ts';

interface Expected {
  texts: { text: string; ids: number[]; special: number[]; decoded: string; skip: string }[];
  decodes: { ids: number[]; decoded: string; skip: string }[];
  chats: {
    messages: ChatMessage[];
    tools?: unknown[];
    error?: string;
    rendered: string;
    prompt: string;
    ids: number[];
    mask: number[];
  }[];
}

/** What templates that write the date were rendered at. */
const NOW = new Date(2026, 2, 5, 17, 8, 9);

describe.each(['llama2', 'tinyllama', 'mistral', 'mistral-nemo', 'llama3', 'qwen', 'smollm2'])('%s', async (family) => {
  const folder = `families/${family}`;
  const { texts, decodes, chats } = await readFixture<Expected>(`${folder}/expected.json`);
  const tokenizer = await loadTokenizerFolder(fixturePath(folder));
  const format = createChatFormat({ tokenizer, now: NOW });

  it('encodes and decodes texts', () => {
    for (const { text, ids, special, decoded, skip } of texts) {
      expect(tokenizer.encode(text), text).toEqual(ids);
      expect(tokenizer.encode(text, { addSpecialTokens: true }), text).toEqual(special);
      expect(tokenizer.decode(ids, { keepSpecialTokens: true })).toBe(decoded);
      expect(tokenizer.decode(ids)).toBe(skip);
    }
  });

  it('decodes any tokens', () => {
    for (const { ids, decoded, skip } of decodes) {
      expect(tokenizer.decode(ids, { keepSpecialTokens: true })).toBe(decoded);
      expect(tokenizer.decode(ids)).toBe(skip);
    }
  });

  it('spells each token in bytes, and gives text in pieces', () => {
    for (const { ids, decoded } of texts) {
      const plain = (id: number): Uint8Array => Buffer.from(tokenizer.decode([id], { keepSpecialTokens: true }));
      const spelt = Buffer.concat(ids.map((id) => tokenizer.tokenBytes(id) ?? plain(id))).toString();
      // Decoding leaves out the blank that encoding put before the text.
      expect([decoded, ` ${decoded}`]).toContain(spelt);
      const stream = new StreamDecoder(tokenizer);
      expect(ids.map((id) => stream.push(id)).join('') + stream.end()).toBe(tokenizer.decode(ids));
    }
  });

  it('begins an answer with a token of its own, as where it is sampled', () => {
    const asked = [{ role: 'user', content: 'Hi' }];
    const answer = { role: 'assistant', content: '\n\n Hello' };
    const { ids } = format.encodeConversation([...asked, answer]);
    const parts = [...format.encodePrompt(asked), ...format.encodeAnswer(asked, answer)];
    expect(Array.from(ids).slice(0, parts.length)).toEqual(parts);
  });

  it('renders, encodes and masks conversations', () => {
    for (const { messages, tools, error, rendered, prompt, ids, mask } of chats) {
      const more = tools === undefined ? {} : { tools };
      if (error !== undefined) {
        expect(() => format.render(messages, more)).toThrow(error);
        continue;
      }
      expect(format.render(messages, more)).toBe(rendered);
      expect(format.render(messages, { ...more, addGenerationPrompt: true })).toBe(prompt);
      const { ids: got, lossWeights } = format.encodeConversation(messages, more);
      expect(got, rendered).toEqual(ids);
      expect(Array.from(lossWeights), rendered).toEqual(mask);
    }
  });
});
