import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fixturePath, readFixture, relativeError } from '../../fixtures/fixtures.ts';
import { peftCheckAdapter } from '../../fixtures/peftCheckAdapter.ts';
import type { LoraWeights } from '../types.ts';
import { LORA_TARGETS } from '../types.ts';
import { createScorer } from '../train/scorer.ts';
import { loadModelFolder } from '../weights/loadModel.ts';
import { checkLora, initLora, mergeLora } from './lora.ts';
import { decodePeftAdapter, encodePeftAdapter, readPeftFolder, writePeftFolder } from './peft.ts';

interface Adapters {
  ids: number[][];
  logprobs: Record<string, number[][]>;
}

const adapter = await readPeftFolder(fixturePath('adapter'));
const model = await loadModelFolder(fixturePath('tiny-tied'));

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adapter-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

describe('reading', () => {
  it('reads the adapter PEFT wrote', () => {
    expect(adapter.config).toEqual({ r: 4, alpha: 8, targets: [...LORA_TARGETS], dropout: 0 });
    expect(adapter.tensors.get('model.layers.1.mlp.down_proj')?.a.dims).toEqual([4, 64]);
    expect(() => checkLora(model.config, adapter)).not.toThrow();
  });

  const files = encodePeftAdapter(adapter, 'tiny-tied');
  const withConfig = (change: Record<string, unknown>): Promise<LoraWeights> => {
    const config: Record<string, unknown> = JSON.parse(new TextDecoder().decode(files.config));
    return decodePeftAdapter({ ...files, config: new TextEncoder().encode(JSON.stringify({ ...config, ...change })) });
  };

  it.each([
    ['use_dora', { use_dora: true }],
    ['modules_to_save', { modules_to_save: ['lm_head'] }],
    ['target_parameters', { target_parameters: ['mlp.experts'] }],
    ['bias', { bias: 'lora_only' }],
    ['init_lora_weights', { init_lora_weights: 'pissa' }],
    ['peft_type', { peft_type: 'IA3' }],
    ['lora_bias', { lora_bias: true }],
  ])('refuses %s by name', async (field, change) => {
    await expect(withConfig(change)).rejects.toThrow(expect.objectContaining({ code: 'engine.adapter.unsupported' }));
    await expect(withConfig(change)).rejects.toThrow(field);
  });

  it.each(['adapter-patterns', 'adapter-partial'])(
    'computes as PEFT with %s, also merged and written again',
    async (name) => {
      const lora = await readPeftFolder(fixturePath(name));
      checkLora(model.config, lora);
      await writePeftFolder(folder, lora, 'tiny-tied');
      const again = await readPeftFolder(folder);
      expect(again).toEqual(lora);
      const { ids, logprobs } = await readFixture<Adapters>('adapters.json');
      const requests = ids.map((row) => ({ ids: row }));
      const plain = await createScorer({ model });
      const merged = await createScorer({ model: mergeLora(model, lora) });
      for (const scores of [await plain.logProbs(requests, lora), await merged.logProbs(requests)]) {
        expect(
          relativeError(
            scores.flatMap((row) => [...row]),
            logprobs[name]!.flat(),
          ),
        ).toBeLessThan(1e-5);
      }
      await plain.close();
      await merged.close();
    },
  );

  it('takes a partial adapter only where its modules are', async () => {
    const partial = await readPeftFolder(fixturePath('adapter-partial'));
    expect([...partial.tensors.keys()]).toEqual([
      'model.layers.0.mlp.down_proj',
      'model.layers.0.self_attn.q_proj',
      'model.layers.0.self_attn.v_proj',
    ]);
    const elsewhere = new Map([['model.layers.7.self_attn.q_proj', [...partial.tensors.values()][1]!]]);
    expect(() => checkLora(model.config, { ...partial, tensors: elsewhere })).toThrow(/no module model\.layers\.7/);
    expect(() => checkLora(model.config, { ...partial, tensors: new Map() })).toThrow(/no module/);
  });

  it('refuses an alpha that is no number', async () => {
    await expect(withConfig({ alpha_pattern: { q_proj: '8' } })).rejects.toThrow(/alpha_pattern must be positive/);
    await expect(withConfig({ alpha_pattern: { '(?P<x>q)': 8 } })).rejects.toThrow(/no regular expression known here/);
  });

  it('takes rank-stabilised scaling into alpha', async () => {
    expect((await withConfig({ use_rslora: true })).config.alpha / 4).toBeCloseTo(8 / Math.sqrt(4), 12);
  });

  it('refuses half an adapter and one that does not fit', async () => {
    const partial: LoraWeights = { ...adapter, tensors: new Map([...adapter.tensors].slice(1)) };
    expect(() => checkLora(model.config, partial)).toThrow(/13 modules/);
    expect(() => checkLora({ ...model.config, hiddenSize: 64 }, adapter)).toThrow(/q_proj: A is \[4, 32\]/);
    await expect(readPeftFolder(folder)).rejects.toMatchObject({ code: 'engine.adapter.missing_file' });
  });
});

describe('writing', () => {
  it('gives back the adapter, and the same bytes each time', async () => {
    await writePeftFolder(folder, adapter, 'tiny-tied');
    const again = await readPeftFolder(folder);
    expect(again.config).toEqual(adapter.config);
    expect(again.tensors).toEqual(adapter.tensors);
    const shuffled = { ...adapter, tensors: new Map([...adapter.tensors].toReversed()) };
    expect(encodePeftAdapter(shuffled, 'm')).toEqual(encodePeftAdapter(adapter, 'm'));
  });
});

describe('in PEFT', () => {
  it('writes the bytes that PEFT was seen to load with the same numbers', async () => {
    const check = await readFixture<{ constructed: { sha256: string; largest_difference: number } }>('peft_check.json');
    const { weights } = encodePeftAdapter(peftCheckAdapter(model.config), 'tiny-tied');
    expect(createHash('sha256').update(weights).digest('hex')).toBe(check.constructed.sha256);
    expect(check.constructed.largest_difference).toBeLessThan(1e-4);
  });
});

describe('initLora', () => {
  const config = { r: 4, alpha: 8, targets: LORA_TARGETS, dropout: 0 } as const;

  it('starts with A uniform in ±1/sqrt(in) and B zero', () => {
    const lora = initLora(model.config, config, 7);
    checkLora(model.config, lora);
    const values = [...lora.tensors.values()].flatMap(({ a }) => [...a.data].map((x) => x * Math.sqrt(a.dims[1]!)));
    expect(Math.max(...values)).toBeLessThanOrEqual(1);
    const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
    const variance = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length;
    expect(Math.abs(mean)).toBeLessThan(0.05);
    expect(variance).toBeGreaterThan(0.3);
    expect(variance).toBeLessThan(0.37);
    expect([...lora.tensors.values()].every(({ b }) => b.data.every((x) => x === 0))).toBe(true);
  });

  it('depends on the seed alone', () => {
    expect(initLora(model.config, config, 7)).toEqual(initLora(model.config, config, 7));
    expect(initLora(model.config, config, 8)).not.toEqual(initLora(model.config, config, 7));
  });

  it('refuses a rank of zero', () => {
    expect(() => initLora(model.config, { ...config, r: 0 }, 1)).toThrow(/LoRA r must be/);
  });
});

describe('mergeLora', () => {
  it('adds (alpha / r) B A and leaves the model alone', () => {
    const name = 'model.layers.0.self_attn.k_proj';
    const before = model.weights.get(`${name}.weight`)!;
    const { a, b } = adapter.tensors.get(name)!;
    const merged = mergeLora(model, adapter).weights;
    let expected = before.data[5 * 32 + 3]!;
    for (let k = 0; k < 4; k++) expected += 2 * b.data[5 * 4 + k]! * a.data[k * 32 + 3]!;
    expect(merged.get(`${name}.weight`)!.data[5 * 32 + 3]).toBeCloseTo(expected, 6);
    expect(model.weights.get(`${name}.weight`)).toBe(before);
    expect(merged.get('model.norm.weight')).toBe(model.weights.get('model.norm.weight'));
  });
});
