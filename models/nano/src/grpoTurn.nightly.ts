import { fileURLToPath } from 'node:url';
import { loadTokenizerFolder } from '@tuneloop/engine/tokenizer/tokenizer';
import { loadModelFolder } from '@tuneloop/engine/weights/loadModel';
import { expect, test } from 'vitest';
import { GRPO_TRAINING, runGrpoTurn } from './grpoTurn.ts';

const folder = fileURLToPath(new URL('../base/', import.meta.url));
const model = { base: await loadModelFolder(folder), tokenizer: await loadTokenizerFolder(folder), threads: 2 };
const TIMEOUT_MS = 600_000;
const WINDOW = 10;

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

test.each([1, 2, 3])(
  'seed %i: from about 0.1 to 0.6 and more, on prompts it never saw',
  { timeout: TIMEOUT_MS },
  async (seed) => {
    const turn = {
      style: 'catalogue' as const,
      seed,
      hyper: GRPO_TRAINING,
      trainPrompts: 400,
      testPrompts: 100,
      fresh: 4,
    };
    const figures = await runGrpoTurn(model, turn);
    expect(figures.before).toBeLessThan(0.2);
    expect(mean(figures.curve.slice(-WINDOW))).toBeGreaterThanOrEqual(0.6);
    expect(figures.after).toBeGreaterThanOrEqual(0.6);
  },
);
