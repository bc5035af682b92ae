import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fixturePath } from '../../fixtures/fixtures.ts';
import { loadModelFolder, writeModelFolder } from './loadModel.ts';
import { parseModelConfig } from './modelConfig.ts';
import { readSafetensors, writeSafetensors } from './safetensors.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'model-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

const llama = {
  architectures: ['LlamaForCausalLM'],
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  vocab_size: 97,
  max_position_embeddings: 256,
};

describe('loadModelFolder', () => {
  it('reads a tied and an untied model', async () => {
    const tied = await loadModelFolder(fixturePath('tiny-tied'));
    expect(tied.config).toMatchObject({ numKvHeads: 2, headDim: 8, ropeTheta: 10000, tieWordEmbeddings: true });
    expect(tied.weights.has('lm_head.weight')).toBe(false);
    expect(tied.eosTokenIds).toEqual([2]);
    const untied = await loadModelFolder(fixturePath('tiny-untied'));
    expect(untied.weights.get('lm_head.weight')?.dims).toEqual([97, 32]);
    expect(untied.weights.size).toBe(tied.weights.size + 1);
  });

  it('reads rope scaling', async () => {
    const { config } = await loadModelFolder(fixturePath('tiny-llama3rope'));
    expect(config.ropeScaling).toEqual({
      type: 'llama3',
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalMaxPositions: 64,
    });
  });

  it('reads what writeModelFolder wrote, and shards', async () => {
    const model = await loadModelFolder(fixturePath('tiny-llama3rope'));
    await writeModelFolder(folder, model, { bos: 1, eos: 2 });
    const again = await loadModelFolder(folder);
    expect(again.config).toEqual(model.config);
    expect(again.weights).toEqual(model.weights);
    const all = [...(await readSafetensors(join(folder, 'model.safetensors')))];
    await rm(join(folder, 'model.safetensors'));
    await writeSafetensors(join(folder, 'part-1.safetensors'), new Map(all.slice(0, 5)));
    await writeSafetensors(join(folder, 'part-2.safetensors'), new Map(all.slice(5)));
    const weight_map = Object.fromEntries(
      all.map(([name], i) => [name, i < 5 ? 'part-1.safetensors' : 'part-2.safetensors']),
    );
    await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map }));
    expect((await loadModelFolder(folder)).weights).toEqual(model.weights);
  });

  it.each(['tiny-qwen2', 'tiny-qwen3', 'tiny-mistral'])('reads %s as writeModelFolder wrote it', async (name) => {
    const model = await loadModelFolder(fixturePath(name));
    await writeModelFolder(folder, model);
    const { config, weights } = await loadModelFolder(folder);
    expect(config).toEqual(model.config);
    expect(weights).toEqual(model.weights);
  });

  it('names the tensor that is missing or has another shape', async () => {
    await cp(fixturePath('tiny-tied'), folder, { recursive: true });
    const config: Record<string, unknown> = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'));
    await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, tie_word_embeddings: false }));
    await expect(loadModelFolder(folder)).rejects.toThrow(/no tensor named lm_head.weight/);
    await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, vocab_size: 98 }));
    await expect(loadModelFolder(folder)).rejects.toThrow(/embed_tokens.weight is \[97, 32\].*\[98, 32\]/);
  });

  it('says which file it could not read', async () => {
    await expect(loadModelFolder(folder)).rejects.toMatchObject({ code: 'engine.model.missing_file' });
  });
});

describe('parseModelConfig', () => {
  it('takes defaults from the architecture', () => {
    expect(parseModelConfig(llama)).toMatchObject({ numKvHeads: 4, headDim: 8, ropeTheta: 10000, rmsNormEps: 1e-6 });
    expect(parseModelConfig({ ...llama, rope_theta: 5e5 }).ropeTheta).toBe(5e5);
    expect(parseModelConfig({ ...llama, architectures: ['Qwen2ForCausalLM'] }).attentionBias).toBe(true);
    expect(parseModelConfig({ ...llama, architectures: ['Qwen3ForCausalLM'] }).qkNorm).toBe(true);
  });

  it.each([
    ['architecture GPT2LMHeadModel', { architectures: ['GPT2LMHeadModel'] }],
    ['rope_type longrope', { rope_scaling: { rope_type: 'longrope', factor: 4 } }],
    ['hidden_act gelu', { hidden_act: 'gelu' }],
    ['mlp_bias', { mlp_bias: true }],
    ['attention_bias', { attention_bias: true }],
    ['quantization_config', { quantization_config: { quant_method: 'gptq' } }],
    ['sliding_window 64', { architectures: ['MistralForCausalLM'], sliding_window: 64 }],
  ])('refuses %s by name', (message, change) => {
    expect(() => parseModelConfig({ ...llama, ...change })).toThrow(message);
    expect(() => parseModelConfig({ ...llama, ...change })).toThrow(
      expect.objectContaining({ code: 'engine.model.unsupported' }),
    );
  });

  it.each([
    ['hidden_size', { hidden_size: 0 }],
    ['num_hidden_layers', { num_hidden_layers: '2' }],
    ['head_dim', { num_attention_heads: 5 }],
    ['4 heads cannot share 3', { num_key_value_heads: 3 }],
  ])('names the bad field: %s', (message, change) => {
    expect(() => parseModelConfig({ ...llama, ...change })).toThrow(message);
  });
});
