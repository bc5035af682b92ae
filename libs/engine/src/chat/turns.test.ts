import { describe, expect, it } from 'vitest';
import { fixturePath } from '../../fixtures/fixtures.ts';
import { loadTokenizerFolder } from '../tokenizer/tokenizer.ts';
import { type ChatMessage, createChatFormat } from './chatFormat.ts';

const tokenizer = await loadTokenizerFolder(fixturePath('families/smollm2'));

/** What the loss counts, by a template over `<|im_end|>` as end token. */
function counted(template: string, messages: readonly ChatMessage[]): string {
  const { ids, lossWeights } = createChatFormat({ tokenizer, template }).encodeConversation(messages);
  return tokenizer.decode(
    Array.from(ids).filter((_, i) => lossWeights[i] !== 0),
    { keepSpecialTokens: true },
  );
}

const say = (role: string, content: unknown, more: object = {}): ChatMessage => ({ role, content, ...more });
const talk = [say('user', 'a'), say('assistant', 'one'), say('user', 'b'), say('assistant', ' two ')];

describe('the assistant’s part', () => {
  it('is found where the template writes the last message otherwise', () => {
    const template =
      "{% for m in messages %}{{ m.role + ':' }}{% if loop.last and m.role == 'assistant' %}<last>{% endif %}{{ m.content + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
    expect(counted(template, talk)).toBe('one<|im_end|><last> two <|im_end|>');
  });

  it('is found where the beginning depends on the whole', () => {
    const template =
      "{{ messages | length }}{% for m in messages %}{{ '[' + m.role + '] ' + m.content | trim }}{% if m.role == 'assistant' %} <|im_end|>{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
    // The blank after the opening is not in the prompt, so it is the answer's.
    expect(counted(template, talk)).toBe(' one <|im_end|> two <|im_end|>');
  });

  it('is found where thoughts of earlier turns are left out', () => {
    const template =
      "{{ messages | length }}{% for m in messages %}{{ m.role + '>' }}{{ m.content if loop.last else m.content.split('</think>')[-1] }}{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}assistant>{% endif %}";
    const thoughtful = [
      say('user', 'a'),
      say('assistant', '<think>x</think>one'),
      say('user', 'b'),
      say('assistant', '<think>y</think>two'),
    ];
    expect(counted(template, thoughtful)).toBe('one<|im_end|><think>y</think>two<|im_end|>');
  });

  it('is not guessed where the words themselves are changed', () => {
    const template = '{{ messages | length }}{% for m in messages %}{{ m.content | upper }}{% endfor %}';
    expect(() => counted(template, talk)).toThrow(expect.objectContaining({ code: 'engine.chat.mask' }));
  });
});

describe('what templates are given', () => {
  const render = (template: string, messages: readonly ChatMessage[]): string =>
    createChatFormat({ tokenizer, template }).render(messages);

  it('text in parts as one text, where they know no parts', () => {
    const parts = [
      { type: 'text', text: 'part one,' },
      { type: 'text', text: ' two' },
    ];
    expect(render('{{ messages[0].content | trim }}', [say('user', parts)])).toBe('part one, two');
    expect(render("{{ messages[0].content[1]['text'] }}", [say('user', parts)])).toBe(' two');
    const picture = [say('user', [{ type: 'image' }])];
    expect(() => render('{{ messages[0].content }}', picture)).toThrow(
      /messages\[0\]\.content has parts that are no text/,
    );
  });

  it('variables of their own', async () => {
    const qwen = await loadTokenizerFolder(fixturePath('families/qwen'));
    const prompt = (variables: Record<string, unknown>): string =>
      createChatFormat({ tokenizer: qwen, variables }).render([say('user', 'a')], { addGenerationPrompt: true });
    expect(prompt({})).toMatch(/assistant\n$/);
    expect(prompt({ enable_thinking: false })).toMatch(/assistant\n<think>\n\n<\/think>\n\n$/);
  });

  it('no tools as none, thoughts under the names in use, dates in English', () => {
    expect(render('{{ tools is none }}', [])).toBe('true');
    expect(render('{{ messages[0].reasoning_content }}', [say('assistant', 'x', { thinking: 'hm' })])).toBe('hm');
    const now = new Date(2026, 4, 1, 0, 30);
    const template = "{{ strftime_now('%d %b %Y, %I %p, %y %a') }}";
    expect(createChatFormat({ tokenizer, template, now }).render([])).toBe('01 May 2026, 12 AM, 26 Fri');
  });
});
