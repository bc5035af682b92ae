import { describe, expect, it } from 'vitest';
import { fixturePath, readFixture } from '../../fixtures/fixtures.ts';
import { loadTokenizerFolder } from '../tokenizer/tokenizer.ts';
import { type ChatMessage, createChatFormat } from './chatFormat.ts';

interface Expected {
  chats: { messages: ChatMessage[]; rendered: string; rendered_with_prompt: string; ids: number[] }[];
}

const tokenizer = await loadTokenizerFolder(fixturePath('bpe'));
const { chats } = await readFixture<Expected>('bpe/expected.json');
const format = createChatFormat({ tokenizer });

/** The text on which the loss counts, and its weights. */
function counted(messages: ChatMessage[]): { text: string; weights: number[] } {
  const { ids, lossWeights } = format.encodeConversation(messages);
  const kept = Array.from(ids).filter((_, i) => lossWeights[i] !== 0);
  return {
    text: tokenizer.decode(kept, { keepSpecialTokens: true }),
    weights: Array.from(lossWeights).filter(Boolean),
  };
}

describe('against Transformers', () => {
  it.each(chats.map((chat) => [chat.messages.length, chat] as const))('renders %i messages', (_, chat) => {
    expect(format.render(chat.messages)).toBe(chat.rendered);
    expect(format.render(chat.messages, { addGenerationPrompt: true })).toBe(chat.rendered_with_prompt);
    expect(format.encodeConversation(chat.messages).ids).toEqual(chat.ids);
  });
});

describe('the loss mask', () => {
  const messages: ChatMessage[] = [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: 'Hello there.', weight: 0 },
    { role: 'user', content: 'A chair?' },
    { role: 'assistant', content: 'A green chair. 🙂', weight: 0.5 },
    { role: 'user', content: 'Thanks' },
  ];

  it('covers what the assistant wrote with its end token, by weight', () => {
    const { text, weights } = counted(messages);
    expect(text).toBe('A green chair. 🙂<|im_end|>');
    expect(new Set(weights)).toEqual(new Set([0.5]));
    expect(counted([...messages, { role: 'assistant', content: 'Bye' }]).text).toBe(
      'A green chair. 🙂<|im_end|>Bye<|im_end|>',
    );
  });

  it('splits prompt and answer where sampling does', () => {
    const prompt = format.encodePrompt(messages.slice(0, 4));
    const answer = format.encodeAnswer(messages.slice(0, 4), messages[4]!);
    const { ids, lossWeights } = format.encodeConversation(messages.slice(0, 5));
    expect([...prompt, ...answer]).toEqual(Array.from(ids).slice(0, prompt.length + answer.length));
    expect(Array.from(lossWeights).lastIndexOf(0.5)).toBe(prompt.length + answer.length - 1);
    expect(answer.at(-1)).toBe(tokenizer.eosTokenId);
  });

  it('refuses a template that rewrites what was said before', () => {
    const template = '{{ messages|length }}{% for m in messages %}{{ m.content|upper }}{% endfor %}';
    const rewriting = createChatFormat({ tokenizer, template });
    expect(() => rewriting.encodeConversation(messages)).toThrow(expect.objectContaining({ code: 'engine.chat.mask' }));
  });
});

describe('errors', () => {
  it('passes on what a template objects to', () => {
    const template = "{% if messages[0].role != 'user' %}{{ raise_exception('user must begin') }}{% endif %}";
    const strict = createChatFormat({ tokenizer, template });
    expect(() => strict.render([{ role: 'assistant', content: '' }])).toThrow(/user must begin/);
  });

  it('says when there is no template, or none that can be read', () => {
    const { chatTemplate: _, ...bare } = tokenizer;
    expect(() => createChatFormat({ tokenizer: bare })).toThrow(
      expect.objectContaining({ code: 'engine.chat.no_template' }),
    );
    expect(() => createChatFormat({ tokenizer, template: '{% for %}' })).toThrow(/cannot be parsed/);
  });
});
