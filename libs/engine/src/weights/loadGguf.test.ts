import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { fixturePath, relativeError } from '../../fixtures/fixtures.ts';
import type { BaseModel } from '../types.ts';
import { withGgufFile, type GgufValue } from './gguf.ts';
import { isFourBit, readGgufQuantized, readGgufTensor } from './ggufBlocks.ts';
import { parseGgufConfig } from './ggufConfig.ts';
import { loadGguf } from './loadGguf.ts';
import { loadModelFolder } from './loadModel.ts';
import { dequantizeModel, dequantizeTensor } from './quantize.ts';
import { readSafetensors } from './safetensors.ts';

const gguf = (name: string): string => fixturePath(`gguf/${name}.gguf`);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gguf-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

/** A copy of a fixture with some bytes changed. */
async function changed(name: string, change: (bytes: Buffer) => Buffer): Promise<string> {
  const path = join(folder, 'changed.gguf');
  await writeFile(path, change(await readFile(gguf(name))));
  return path;
}

/** Replaces one text by another of the same length. */
const replaced = (from: string, to: string) => (bytes: Buffer) =>
  Buffer.from(bytes.toString('latin1').replaceAll(from, to), 'latin1');

describe('tensor types', async () => {
  const expected = await readSafetensors(fixturePath('gguf/dtypes.safetensors'));

  it.each([...expected.keys()])('%s has the values of the gguf package', async (type) => {
    await withGgufFile(gguf('dtypes'), async ({ tensors }, source) => {
      expect(await readGgufTensor(source, tensors.get(type)!)).toEqual(expected.get(type));
    });
  });

  it.each(['Q4_0', 'Q4_1', 'Q4_K'])('%s is kept in 4 bits exactly', async (type) => {
    await withGgufFile(gguf('dtypes'), async ({ tensors }, source) => {
      const info = tensors.get(type)!;
      expect(isFourBit(info.type)).toBe(true);
      // Without the sign of zeros, which codes cannot hold.
      const values = dequantizeTensor(await readGgufQuantized(source, info)).data.map((x) => x + 0);
      expect(values).toEqual(expected.get(type)!.data.map((x) => x + 0));
    });
  });

  it('are read in another order of rows', async () => {
    await withGgufFile(gguf('dtypes'), async ({ tensors }, source) => {
      const { data } = await readGgufTensor(source, tensors.get('Q6_K')!, (row) => 1 - row);
      expect(data.subarray(256)).toEqual(expected.get('Q6_K')!.data.subarray(0, 256));
    });
  });
});

describe('the container', () => {
  it('gives metadata of every kind, in versions 2 and 3', async () => {
    for (const version of [2, 3]) {
      const path = await changed('dtypes', (bytes) => {
        bytes.writeUInt32LE(version, 4);
        return bytes;
      });
      const { metadata } = await withGgufFile(path, async (header) => header);
      expect(metadata.get('numbers')).toEqual([1, -2, 3]);
      expect(metadata.get('large')).toBe(2 ** 40);
      expect(metadata.get('flag')).toBe(true);
      expect(metadata.get('double')).toBe(0.1);
    }
  });

  it.each([
    ['engine.weights.damaged', 'cut off in the header', (b: Buffer) => b.subarray(0, 200)],
    ['engine.weights.damaged', 'cut off in the data', (b: Buffer) => b.subarray(0, b.length - 64)],
    ['engine.weights.damaged', 'of another kind', (b: Buffer) => Buffer.concat([Buffer.from('PK'), b])],
    ['engine.weights.damaged', 'empty', () => Buffer.alloc(0)],
    ['engine.weights.unsupported_version', 'version 1', (b: Buffer) => (b.writeUInt32LE(1, 4), b)],
    ['engine.weights.damaged', 'with a claim of 2^60 tensors', (b: Buffer) => (b.writeUInt32LE(1 << 28, 12), b)],
  ])('refuses with %s a file %s', async (code, _, change) => {
    await expect(loadGguf(await changed('llama-f16', change))).rejects.toMatchObject({ code });
  });

  it('says which file is missing', async () => {
    await expect(loadGguf(join(folder, 'none.gguf'))).rejects.toThrow(/cannot read .*none\.gguf/);
  });
});

async function largestError(model: BaseModel, original: string): Promise<number> {
  const { weights } = await loadModelFolder(fixturePath(original));
  expect([...model.weights.keys()]).toEqual([...weights.keys()]);
  return Math.max(...[...weights].map(([name, { data }]) => relativeError(model.weights.get(name)!.data, data)));
}

test.each([
  ['llama-f16', 'tiny-llama3rope', 1e-3],
  ['qwen2-q8_0', 'tiny-qwen2', 1e-2],
  ['qwen3-bf16', 'tiny-qwen3', 5e-3],
  ['llama-q4', 'tiny-untied', 0.12],
])('%s is %s, to the precision of its types', async (name, original, bound) => {
  const model = await loadGguf(gguf(name));
  expect(model.config).toEqual((await loadModelFolder(fixturePath(original))).config);
  expect(model.eosTokenIds).toEqual([2]);
  expect(await largestError(model, original)).toBeLessThan(bound);
});

test('4-bit matrices can stay as they are, with the same numbers', async () => {
  const floats = await loadGguf(gguf('llama-q4'));
  const kept = await loadGguf(gguf('llama-q4'), { keepQuantized: true });
  expect(kept.quantized?.size).toBe(14);
  // Without the sign of zeros, which codes cannot hold.
  const plain = ({ weights }: BaseModel): unknown =>
    new Map([...weights].map(([name, { dims, data }]) => [name, { dims, data: data.map((x) => x + 0) }]));
  expect(plain(dequantizeModel(kept))).toEqual(plain(floats));
});

describe('what cannot be computed is refused by name', () => {
  it.each([
    ['architecture', replaced('llama', 'gemma'), /architecture gemma \(supported: llama, qwen2, qwen3\)/],
    ['tensor', replaced('blk.1.attn_norm.weight', 'blk.1.attn_sink.weight'), /tensor blk\.1\.attn_sink\.weight/],
  ])('%s', async (_, change, message) => {
    const path = await changed('llama-f16', change);
    await expect(loadGguf(path)).rejects.toThrow(message);
  });

  const plain: [string, GgufValue][] = [
    ['general.architecture', 'llama'],
    ['llama.block_count', 2],
    ['llama.context_length', 256],
    ['llama.embedding_length', 32],
    ['llama.feed_forward_length', 64],
    ['llama.attention.head_count', 4],
    ['llama.attention.layer_norm_rms_epsilon', Math.fround(1e-5)],
  ];
  const parse = (...more: [string, GgufValue][]): ReturnType<typeof parseGgufConfig> =>
    parseGgufConfig({ metadata: new Map([...plain, ...more]), vocabSize: 97, tied: true });

  it('takes defaults', () => {
    expect(parse().config).toMatchObject({ numKvHeads: 4, headDim: 8, ropeTheta: 10000, rmsNormEps: 1e-5 });
  });

  it.each<[string, GgufValue, RegExp]>([
    ['general.type', 'adapter', /general\.type adapter/],
    ['llama.expert_count', 8, /llama\.expert_count is 8/],
    ['llama.attention.sliding_window', 128, /sliding_window 128/],
    ['llama.attention.head_count_kv', [4, 2], /head_count_kv differs/],
    ['llama.rope.dimension_count', 4, /rope\.dimension_count 4 of 8/],
    ['llama.rope.scaling.type', 'longrope', /rope\.scaling\.type longrope/],
    ['llama.attention.value_length', 16, /unlike length/],
  ])('%s %s', (key, value, message) => {
    expect(() => parse([key, value])).toThrow(message);
    expect(() => parse([key, value])).toThrow(expect.objectContaining({ code: 'engine.model.unsupported' }));
  });

  it.each<[string, GgufValue]>([
    ['llama.block_count', 'two'],
    ['llama.embedding_length', 0],
    ['llama.feed_forward_length', 64.5],
  ])('%s %s is called a mistake', (key, value) => {
    expect(() => parse([key, value])).toThrow(expect.objectContaining({ code: 'engine.model.bad_config' }));
  });
});
