import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { GRPO_DEFAULTS, LORA_DEFAULTS, TRAINING_DEFAULTS } from './defaults.ts';

/** Cells of the page's table of defaults by their row's and column's heading. */
async function documented(): Promise<Map<string, Map<string, string>>> {
  const page = await readFile(new URL('../../../../docs/fine-tuning.md', import.meta.url), 'utf8');
  const section = page.slice(page.indexOf('## Defaults'));
  const [head = [], , ...rows] = section
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  return new Map(
    rows.map(([name = '', ...cells]) => [name, new Map(cells.map((cell, i) => [head[i + 1] ?? '', cell]))]),
  );
}

test('the page states the defaults there are', async () => {
  const rows = await documented();
  const at = (row: string, method: string): number => Number(rows.get(row)?.get(method));
  for (const [method, defaults] of Object.entries(TRAINING_DEFAULTS)) {
    expect(at('learning rate', method)).toBe(defaults.learningRate);
    expect(at('epochs', method)).toBe(defaults.epochs);
    expect(at('batch size', method)).toBe(defaults.batchSize);
    expect(at('warm-up, share of the steps', method)).toBe(defaults.warmupRatio);
    expect(at('LoRA rank', method)).toBe(LORA_DEFAULTS.r);
    expect(at('LoRA alpha', method)).toBe(LORA_DEFAULTS.alpha);
    expect(rows.get('schedule')?.get(method)).toBe(defaults.schedule);
  }
  expect(at('beta', 'dpo')).toBe(TRAINING_DEFAULTS.dpo.dpo.beta);
  expect(at('beta', 'kto')).toBe(TRAINING_DEFAULTS.kto.kto.beta);
  expect(at('beta', 'grpo')).toBe(GRPO_DEFAULTS.beta);
  expect(at('learning rate', 'grpo')).toBe(GRPO_DEFAULTS.learningRate);
  expect(at('prompts a step', 'grpo')).toBe(GRPO_DEFAULTS.promptsPerStep);
  expect(at('completions a prompt', 'grpo')).toBe(GRPO_DEFAULTS.groupSize);
  expect(rows.get('schedule')?.get('grpo')).toBe(GRPO_DEFAULTS.schedule);
});
