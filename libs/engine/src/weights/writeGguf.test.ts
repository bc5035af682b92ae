import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { fixturePath, readFixture, relativeError } from '../../fixtures/fixtures.ts';
import { ggufCheckFiles } from '../../fixtures/ggufCheckFiles.ts';
import { readPeftFolder } from '../adapters/peft.ts';
import { loadTokenizerGguf } from '../tokenizer/fromGguf.ts';
import { createTokenizer, readTokenizerFiles } from '../tokenizer/tokenizer.ts';
import { withGgufFile } from './gguf.ts';
import { readGgufTensor } from './ggufBlocks.ts';
import { loadGguf } from './loadGguf.ts';
import { loadModelFolder } from './loadModel.ts';
import { quantizeModel, dequantizeModel } from './quantize.ts';
import { writeGgufAdapter, writeGgufModel } from './writeGguf.ts';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gguf-'));
  path = join(folder, 'model.gguf');
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

describe('a model', () => {
  it.each(['tiny-tied', 'tiny-untied', 'tiny-llama3rope', 'tiny-mistral', 'tiny-qwen2', 'tiny-qwen3'])(
    'comes back from F32 as it was: %s',
    async (name) => {
      const model = await loadModelFolder(fixturePath(name));
      await writeGgufModel(path, model, { type: 'F32' });
      const back = await loadGguf(path);
      expect(back.config).toEqual(model.config);
      expect(back.weights).toEqual(model.weights);
      expect(await readdir(folder)).toEqual(['model.gguf']);
    },
  );

  it.each([
    ['llama-f16', 'F16'],
    ['qwen2-q8_0', 'Q8_0'],
  ] as const)('has in %s the tensors that the gguf package wrote, byte for byte', async (fixture, type) => {
    const original = fixture === 'llama-f16' ? 'tiny-llama3rope' : 'tiny-qwen2';
    await writeGgufModel(path, await loadModelFolder(fixturePath(original)), { type });
    const bytesOf = async (file: string): Promise<Map<string, Buffer>> => {
      const whole = await readFile(file);
      return await withGgufFile(
        file,
        async ({ tensors }) =>
          new Map([...tensors].map(([name, t]) => [name, whole.subarray(t.offset, t.offset + t.byteLength)])),
      );
    };
    const [ours, theirs] = [await bytesOf(path), await bytesOf(fixturePath(`gguf/${fixture}.gguf`))];
    expect([...ours.keys()].toSorted()).toEqual([...theirs.keys()].toSorted());
    for (const [name, bytes] of theirs) expect(ours.get(name)!.equals(bytes), name).toBe(true);
  });

  it('in 4 bits is written as the floats it stands for', async () => {
    const model = quantizeModel(await loadModelFolder(fixturePath('tiny-untied')), { head: true });
    await writeGgufModel(path, model, { type: 'F32' });
    const floats = dequantizeModel(model).weights;
    const back = (await loadGguf(path)).weights;
    expect(back.size).toBe(floats.size);
    for (const [name, tensor] of back) expect(tensor, name).toEqual(floats.get(name));
  });

  it('with YaRN and linear scaling keeps its settings', async () => {
    const model = await loadModelFolder(fixturePath('tiny-tied'));
    const yarn = { factor: 4, originalMaxPositions: 64, betaFast: 16, betaSlow: 2, attentionFactor: 1.25 } as const;
    for (const ropeScaling of [
      { type: 'linear', factor: 2 },
      { type: 'yarn', ...yarn, truncate: true },
    ] as const) {
      await writeGgufModel(path, { ...model, config: { ...model.config, ropeScaling } });
      const { ropeScaling: back } = (await loadGguf(path)).config;
      expect(back).toMatchObject({ type: ropeScaling.type, factor: ropeScaling.factor });
      if (back?.type === 'yarn') expect(back.attentionFactor).toBeCloseTo(1.25, 6);
    }
    const config = { ...model.config, ropeScaling: { type: 'yarn', ...yarn, truncate: false } } as const;
    await expect(writeGgufModel(path, { ...model, config })).rejects.toThrow(/truncate false/);
  });
});

test('a byte-level tokenizer comes back with its template, and unused tokens up to the embedding', async () => {
  const model = await loadModelFolder(fixturePath('tiny-tied'));
  const files = await readTokenizerFiles(fixturePath('bpe'));
  const config = { ...model.config, vocabSize: 448 };
  const embedding = { dims: [448, 32], data: new Float32Array(448 * 32) };
  const weights = new Map([...model.weights, ['model.embed_tokens.weight', embedding]]);
  await writeGgufModel(path, { config, weights }, { type: 'Q8_0', tokenizer: files, eosTokenIds: [2, 0] });
  const back = await loadGguf(path);
  expect(back.eosTokenIds).toEqual([2, 0]);
  expect((back.metadata.get('tokenizer.ggml.tokens') as string[]).length).toBe(448);
  const [ours, original] = [await loadTokenizerGguf(path), createTokenizer(files.json, files.config)];
  expect(ours.vocabSize).toBe(original.vocabSize);
  expect(ours.chatTemplate).toBe(original.chatTemplate);
  for (const text of ['Hello  world', '<|im_start|>user\nzażółć 🙂 123<|im_end|>', '\t x\n\n']) {
    expect(ours.encode(text)).toEqual(original.encode(text));
  }
});

test('a tokenizer that llama.cpp has no name for is refused', async () => {
  const model = await loadModelFolder(fixturePath('tiny-tied'));
  const files = await readTokenizerFiles(fixturePath('bpe'));
  const json = { ...files.json, pre_tokenizer: { type: 'Whitespace' } };
  const config = { ...model.config, vocabSize: 448 };
  await expect(writeGgufModel(path, { ...model, config }, { tokenizer: { ...files, json } })).rejects.toThrow(
    /no name for the pre-tokenizer .*Whitespace/,
  );
  await expect(writeGgufModel(path, model, { tokenizer: files })).rejects.toThrow(/beyond the model's 97 embeddings/);
});

test('an adapter has its matrices under the names of the base, q and k rows as the base has them', async () => {
  const model = await loadModelFolder(fixturePath('tiny-tied'));
  const lora = await readPeftFolder(fixturePath('adapter'));
  await writeGgufAdapter(path, model.config, lora, { name: 'mine' });
  await withGgufFile(path, async ({ metadata, tensors }, source) => {
    expect(Object.fromEntries(metadata)).toMatchObject({
      'general.type': 'adapter',
      'adapter.type': 'lora',
      'adapter.lora.alpha': 8,
      'general.name': 'mine',
    });
    expect(tensors.size).toBe(28);
    const { a, b } = lora.tensors.get('model.layers.1.self_attn.k_proj')!;
    expect(await readGgufTensor(source, tensors.get('blk.1.attn_k.weight.lora_a')!)).toEqual(a);
    const rows = await readGgufTensor(source, tensors.get('blk.1.attn_k.weight.lora_b')!);
    expect(rows.data.subarray(4, 8)).toEqual(b.data.subarray(16, 20));
    expect(relativeError(rows.data.toSorted(), b.data.toSorted())).toBe(0);
  });
  await expect(loadGguf(path)).rejects.toThrow(/general\.type adapter/);
});

describe('in llama.cpp', async () => {
  interface Seen {
    largest_difference: number;
    same_tokens: boolean;
    same_greedy: boolean;
  }
  const check = await readFixture<{ sha256: Record<string, string>; files: Record<string, { llama_cpp: Seen }> }>(
    'gguf_check.json',
  );

  it.each(Object.entries(ggufCheckFiles))('the bytes are those that were seen to be read: %s', async (name, write) => {
    await write(path);
    const digest = createHash('sha256').update(await readFile(path));
    expect(digest.digest('hex')).toBe(check.sha256[name]);
  });

  const exact = Object.entries(check.files).filter(([name]) => /F32$|adapter$/.test(name));
  it.each(exact)('%s gave the same numbers, tokens and continuations', (_, { llama_cpp: seen }) => {
    expect(seen).toMatchObject({ same_tokens: true, same_greedy: true });
    expect(seen.largest_difference).toBeLessThan(1e-4);
  });
});
