import { fileURLToPath } from 'node:url';
import { loadTokenizerFolder } from '@tuneloop/engine/tokenizer/tokenizer';
import { loadModelFolder } from '@tuneloop/engine/weights/loadModel';
import { expect, test } from 'vitest';
import { type LabTurn, runLabTurn } from './labTurn.ts';
import { ADAPTER, SAMPLING, TRAINING } from './recipe.ts';
import { tasteNamed } from './taste.ts';

const folder = fileURLToPath(new URL('../base/', import.meta.url));
const model = { base: await loadModelFolder(folder), tokenizer: await loadTokenizerFolder(folder), threads: 1 };

/** A third of the sample project's turn: enough to see the direction. */
const SMALL: Omit<LabTurn, 'taste' | 'seed'> = {
  shuffled: false,
  trainPrompts: 40,
  testPrompts: 50,
  candidates: 8,
  fresh: 3,
  pairsPerPrompt: 4,
  sampling: SAMPLING,
  lora: ADAPTER,
  hyper: TRAINING,
};

test('the recipe moves fresh samples towards the taste, and keeps clean captions likely', {
  timeout: 120_000,
}, async () => {
  const figures = await runLabTurn(model, { ...SMALL, taste: tasteNamed('accurate'), seed: 1 });
  expect(figures.rewardRise.low).toBeGreaterThan(0);
  expect(figures.winRate.low).toBeGreaterThan(0.5);
  expect(figures.after.wrongAttributes).toBeLessThan(figures.before.wrongAttributes);
  expect(figures.perplexityRatio).toBeLessThan(1.15);
});

test('the opposite taste moves them the other way', { timeout: 120_000 }, async () => {
  const figures = await runLabTurn(model, { ...SMALL, taste: tasteNamed('not-accurate'), seed: 1 });
  expect(figures.rewardRise.high).toBeLessThan(0);
  expect(figures.winRate.high).toBeLessThan(0.5);
});
