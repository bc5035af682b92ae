import { fileURLToPath } from 'node:url';
import { loadTokenizerFolder } from '@tuneloop/engine/tokenizer/tokenizer';
import { loadModelFolder } from '@tuneloop/engine/weights/loadModel';
import { expect, test } from 'vitest';
import { GRPO_TRAINING, runGrpoTurn, styleReward } from './grpoTurn.ts';
import type { Attributes } from './world.ts';

const facts: Attributes = {
  noun: 'mug',
  category: 'kitchen',
  colour: 'red',
  background: 'grey',
  light: 'left',
  orientation: 'square',
  size: 'small',
};

test('only a caption of the style that states nothing wrong is rewarded', () => {
  expect(styleReward('terse', facts, 'Red mug.')).toBe(1);
  expect(styleReward('terse', facts, 'Blue mug.')).toBe(0);
  expect(styleReward('vivid', facts, 'Red mug.')).toBe(0);
  expect(styleReward('terse', facts, 'Red red mug the.')).toBe(0);
});

test('a few steps of GRPO raise the reward', async () => {
  const folder = fileURLToPath(new URL('../base/', import.meta.url));
  const model = { base: await loadModelFolder(folder), tokenizer: await loadTokenizerFolder(folder), threads: 1 };
  const hyper = { ...GRPO_TRAINING, steps: 12, promptsPerStep: 6, learningRate: 4e-3 };
  const figures = await runGrpoTurn(model, {
    style: 'catalogue',
    seed: 1,
    hyper,
    trainPrompts: 100,
    testPrompts: 25,
    fresh: 4,
  });
  expect(figures.curve).toHaveLength(12);
  expect(figures.before).toBeLessThan(0.25);
  expect(figures.after).toBeGreaterThan(figures.before + 0.15);
});
