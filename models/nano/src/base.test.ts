import { readFileSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createChatFormat } from '@tuneloop/engine/chat/chatFormat';
import { createSampler } from '@tuneloop/engine/sample/sampler';
import { loadTokenizerFolder } from '@tuneloop/engine/tokenizer/tokenizer';
import { loadModelFolder } from '@tuneloop/engine/weights/loadModel';
import { describe, expect, test } from 'vitest';
import { formatAnswer, formatPrompt } from './chatFormat.ts';
import { corpus } from './corpus.ts';
import { describeAttributes } from './facts.ts';
import { parseCaption, STYLES } from './grammar.ts';
import { samplePictures } from './pictures.ts';
import { BASE_CONFIG, SAMPLING } from './recipe.ts';
import { wrongAttributes } from './taste.ts';

const folder = fileURLToPath(new URL('../base/', import.meta.url));
const model = await loadModelFolder(folder);
const tokenizer = await loadTokenizerFolder(folder);

describe('the committed base', () => {
  test('has the architecture of the recipe, and stays small', () => {
    expect(model.config).toEqual(BASE_CONFIG);
    expect(statSync(`${folder}/model.safetensors`).size).toBeLessThan(4_000_000);
    expect(readFileSync(`${folder}/README.md`, 'utf8')).toContain('license: apache-2.0');
  });

  test('its chat template writes the format it was trained on', () => {
    const chat = createChatFormat({ tokenizer });
    for (const { system, user, answer } of corpus(31, 50)) {
      const messages = [
        ...(system === undefined ? [] : [{ role: 'system', content: system }]),
        { role: 'user', content: user },
      ];
      expect(chat.render(messages, { addGenerationPrompt: true })).toBe(formatPrompt(user, system));
      const whole = chat.encodeConversation([...messages, { role: 'assistant', content: answer }]);
      expect([...whole.ids]).toEqual(tokenizer.encode(formatPrompt(user, system) + formatAnswer(answer)));
    }
  });

  test('its samples read as captions of the picture: varied, mostly true, some wrong', async () => {
    const sampler = createSampler({ model, tokenizer, threads: 1, maxBatch: 64 });
    const pictures = samplePictures(60, 77);
    const captions = await Promise.all(
      pictures.map(async ({ attributes }, i) => {
        const prompt = formatPrompt(describeAttributes(attributes));
        const request = {
          prompt,
          maxTokens: SAMPLING.maxTokens,
          temperature: SAMPLING.temperature,
          topP: SAMPLING.topP,
        };
        const answers = await sampler.generateMany({ ...request, seed: 100 * i }, 4);
        return answers.map(({ text = '' }) => ({ text, attributes, parsed: parseCaption(text) }));
      }),
    );
    await sampler.close();
    const all = captions.flat();
    const share = (holds: (caption: (typeof all)[number]) => boolean): number => all.filter(holds).length / all.length;
    expect(share(({ parsed }) => parsed.style !== undefined)).toBeGreaterThan(0.95);
    for (const style of STYLES) expect(share(({ parsed }) => parsed.style === style)).toBeGreaterThan(0.08);
    const right = share(({ text, attributes }) => wrongAttributes(attributes, text).length === 0);
    expect(right).toBeGreaterThan(0.5);
    expect(right).toBeLessThan(0.9);
  });
});
