import { fileURLToPath } from 'node:url';
import { loadTokenizerFolder } from '@tuneloop/engine/tokenizer/tokenizer';
import { loadModelFolder } from '@tuneloop/engine/weights/loadModel';
import { describe, expect, test } from 'vitest';
import { type LabTurn, runLabTurn } from './labTurn.ts';
import { ADAPTER, SAMPLING, TRAINING } from './recipe.ts';
import { TASTE_NAMES, tasteNamed } from './taste.ts';

const folder = fileURLToPath(new URL('../base/', import.meta.url));
const model = { base: await loadModelFolder(folder), tokenizer: await loadTokenizerFolder(folder), threads: 1 };
const SEEDS = [1, 2, 3, 4, 5];
const TIMEOUT_MS = 600_000;

const FULL: Omit<LabTurn, 'taste' | 'seed'> = {
  shuffled: false,
  trainPrompts: 120,
  testPrompts: 120,
  candidates: 8,
  fresh: 4,
  pairsPerPrompt: 4,
  sampling: SAMPLING,
  lora: ADAPTER,
  hyper: TRAINING,
};

describe.each(TASTE_NAMES)('taste %s', (name) => {
  test.each(SEEDS)('seed %i: fresh samples win, and little is forgotten', { timeout: TIMEOUT_MS }, async (seed) => {
    const figures = await runLabTurn(model, { ...FULL, taste: tasteNamed(name), seed });
    expect(figures.rewardRise.low).toBeGreaterThan(0);
    expect(figures.winRate.value).toBeGreaterThanOrEqual(0.65);
    expect(figures.winRate.low).toBeGreaterThan(0.5);
    expect(figures.winRateAtEqualLength.low).toBeGreaterThan(0.5);
    expect(figures.perplexityRatio).toBeLessThan(1.15);
  });

  test('the opposite taste moves the other way', { timeout: TIMEOUT_MS }, async () => {
    const figures = await runLabTurn(model, { ...FULL, taste: tasteNamed(`not-${name}`), seed: 1 });
    expect(figures.rewardRise.high).toBeLessThan(0);
    expect(figures.winRate.high).toBeLessThan(0.5);
  });

  test.each(SEEDS)('seed %i: shuffled stars win nothing', { timeout: TIMEOUT_MS }, async (seed) => {
    const figures = await runLabTurn(model, { ...FULL, taste: tasteNamed(name), seed, shuffled: true });
    expect(figures.winRateAtEqualLength.low).toBeLessThan(0.5);
  });
});
