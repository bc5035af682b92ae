import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fixturePath, readFixture } from '../../fixtures/fixtures.ts';
import type { WeightMap } from '../types.ts';
import {
  decodeSafetensors,
  encodeSafetensors,
  listWeightFiles,
  readSafetensors,
  writeSafetensors,
} from './safetensors.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'safetensors-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

function fileOf(header: unknown, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify(header));
  const out = new Uint8Array(8 + json.length + data.length);
  new DataView(out.buffer).setBigUint64(0, BigInt(json.length), true);
  out.set(json, 8);
  out.set(data, 8 + json.length);
  return out;
}

describe('reading', () => {
  it.each(['f32', 'f16', 'bf16'] as const)('widens %s to the values PyTorch has', async (name) => {
    const expected = await readFixture<Record<string, string[]>>('dtypes.json');
    const tensor = (await readSafetensors(fixturePath('dtypes.safetensors'), [name])).get(name)!;
    expect([...tensor.data]).toEqual(
      expected[name]!.map((text) => Number(text.replace('inf', 'Infinity'))).map(Math.fround),
    );
    expect(Object.is(tensor.data[30], -0)).toBe(true);
  });

  it('refuses a dtype it cannot widen by name', async () => {
    await expect(readSafetensors(fixturePath('dtypes.safetensors'))).rejects.toThrow(/i64 .* has dtype I64/);
  });

  it('says which tensor is missing', async () => {
    await expect(readSafetensors(fixturePath('dtypes.safetensors'), ['nope'])).rejects.toMatchObject({
      code: 'engine.weights.missing',
    });
  });

  it.each([
    ['shorter than its header', new Uint8Array([200, 0, 0, 0, 0, 0, 0, 0, 123])],
    ['empty', new Uint8Array(0)],
    ['not JSON', new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0, 120])],
    ['a tensor outside', fileOf({ a: { dtype: 'F32', shape: [2], data_offsets: [0, 8] } }, new Uint8Array(4))],
    ['a shape that disagrees', fileOf({ a: { dtype: 'F32', shape: [3], data_offsets: [0, 8] } }, new Uint8Array(8))],
    ['negative offsets', fileOf({ a: { dtype: 'F32', shape: [1], data_offsets: [-4, 0] } })],
  ])('calls a file damaged: %s', async (_, bytes) => {
    await expect(decodeSafetensors(bytes, 'x')).rejects.toMatchObject({ code: 'engine.weights.damaged' });
  });
});

describe('writing', () => {
  it('gives back what went in, whatever the order, and the same bytes', async () => {
    const tensors = fc.uniqueArray(
      fc.record({
        name: fc.string({ minLength: 1 }).filter((n) => n !== '__metadata__' && n !== '__proto__'),
        data: fc.float32Array(),
      }),
      { selector: (t) => t.name, maxLength: 5 },
    );
    await fc.assert(
      fc.asyncProperty(tensors, async (list) => {
        const toMap = (items: typeof list): WeightMap =>
          new Map(items.map(({ name, data }) => [name, { dims: [data.length], data }]));
        const bytes = encodeSafetensors(toMap(list), { format: 'pt' });
        expect(encodeSafetensors(toMap(list.toReversed()), { format: 'pt' })).toEqual(bytes);
        const back = await decodeSafetensors(bytes, 'x');
        expect(back).toEqual(toMap(list));
      }),
      { numRuns: 50 },
    );
  });

  it('writes what the Python package wrote, byte for byte', async () => {
    const path = fixturePath('tiny-tied/model.safetensors');
    const copy = join(folder, 'copy.safetensors');
    await writeSafetensors(copy, await readSafetensors(path), { format: 'pt' });
    expect(Buffer.compare(await readFile(copy), await readFile(path))).toBe(0);
    expect(await readdir(folder)).toEqual(['copy.safetensors']);
  });
});

describe('listWeightFiles', () => {
  it('follows the index of a sharded model', async () => {
    const weight_map = { a: 'model-2.safetensors', b: 'model-1.safetensors', c: 'model-2.safetensors' };
    await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map }));
    expect(await listWeightFiles(folder)).toEqual(
      ['model-1.safetensors', 'model-2.safetensors'].map((f) => join(folder, f)),
    );
  });

  it('does not follow an index out of the folder', async () => {
    await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map: { a: '../secret' } }));
    await expect(listWeightFiles(folder)).rejects.toMatchObject({ code: 'engine.weights.damaged' });
  });

  it('says what it looked for', async () => {
    await expect(listWeightFiles(folder)).rejects.toThrow(/neither model.safetensors nor/);
  });
});
