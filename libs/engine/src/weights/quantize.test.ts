import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { initWeights } from '../models/initWeights.ts';
import { createRandom } from '../random.ts';
import type { BaseModel, ModelConfig, QuantizedTensor, Tensor } from '../types.ts';
import { dequantizeModel, dequantizeTensor, quantizeModel, quantizeTensor } from './quantize.ts';

const config: ModelConfig = {
  hiddenSize: 32,
  intermediateSize: 64,
  numLayers: 2,
  numHeads: 2,
  numKvHeads: 1,
  headDim: 16,
  vocabSize: 40,
  maxPositions: 64,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  tieWordEmbeddings: true,
};
const model = (): BaseModel => ({ config, weights: initWeights(config, 3) });

function gaussian(out: number, in_: number, seed: number): Tensor {
  const random = createRandom(seed);
  const data = Float32Array.from(
    { length: out * in_ },
    () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()),
  );
  return { dims: [out, in_], data };
}

const relativeError = (is: Float32Array, should: Float32Array): number =>
  Math.sqrt(is.reduce((sum, x, i) => sum + (x - should[i]!) ** 2, 0) / should.reduce((sum, x) => sum + x * x, 0));

/** f of every code and block of a tensor whose codes count up; a sum has no negative zero. */
const byCode = (f: (q: number, block: number) => number): number[] =>
  Array.from({ length: 64 }, (_, i) => Math.fround(f(i % 16, Math.floor(i / 32)) + 0));

test('blocks of GGUF Q4_0 and Q4_1 are held exactly', () => {
  // Half-precision scale and minimum, as such files have; values by the formulas of ggml-quants.c.
  const codes = Uint8Array.from({ length: 32 }, (_, i) => ((2 * i) % 16) | (((2 * i + 1) % 16) << 4));
  const d = Float32Array.of(-0.123046875, 0.0009765625);
  const m = Float32Array.of(0.73046875, -3.298828125);
  const q40: QuantizedTensor = { bits: 4, dims: [2, 32], blockSize: 32, codes, scales: d };
  expect([...dequantizeTensor(q40).data]).toEqual(byCode((q, block) => d[block]! * (q - 8)));
  expect([...dequantizeTensor({ ...q40, mins: m }).data]).toEqual(byCode((q, block) => d[block]! * q + m[block]!));
});

test('every value moves by half a step at most, and the largest of a block by nothing', () => {
  const floats = fc.array(fc.float({ min: -10, max: 10, noNaN: true }), { minLength: 64, maxLength: 64 });
  fc.assert(
    fc.property(floats, fc.constantFrom(16, 32, 64), fc.boolean(), (values, blockSize, mins) => {
      const tensor = { dims: [1, 64], data: Float32Array.from(values) };
      const rounded = quantizeTensor(tensor, { blockSize, mins });
      const back = dequantizeTensor(rounded).data;
      for (let block = 0; block < 64 / blockSize; block++) {
        const slice = values.slice(block * blockSize, (block + 1) * blockSize);
        const step = Math.abs(rounded.scales[block]!);
        const largest = Math.max(...slice.map(Math.abs));
        slice.forEach((w, i) => {
          const moved = Math.abs(back[block * blockSize + i]! - w);
          // Without a minimum the sixteen codes reach from -8 to 7 steps: what lies beyond 7.5 is cut by up to one.
          const cut = !mins && Math.abs(w) > 7.5 * step;
          expect(moved).toBeLessThanOrEqual((cut ? 1 : 0.5) * step + 1e-5 * largest);
          if (!mins && w === slice.find((x) => Math.abs(x) === largest) && slice.indexOf(-w) < 0) {
            expect(moved).toBeLessThanOrEqual(1e-6 * largest);
          }
        });
      }
    }),
  );
});

test('rounding of normal weights costs what 4 bits cost, less with minima and with smaller blocks', () => {
  const tensor = gaussian(64, 256, 5);
  const error = (options: { blockSize?: number; mins?: boolean }): number =>
    relativeError(dequantizeTensor(quantizeTensor(tensor, options)).data, tensor.data);
  const plain = error({});
  expect(plain).toBeLessThan(0.1);
  expect(error({ mins: true })).toBeLessThan(plain);
  expect(error({ blockSize: 16 })).toBeLessThan(plain);
  expect(error({ blockSize: 128 })).toBeGreaterThan(plain);
});

test('a quantised model keeps embeddings and norms, and takes matrices out of the given one when told', () => {
  const given = model();
  const names = [...given.weights.keys()];
  const small = quantizeModel(given, { blockSize: 16 });
  expect([...given.weights.keys()]).toEqual(names);
  expect([...small.weights.keys(), ...small.quantized!.keys()].toSorted()).toEqual(names.toSorted());
  expect([...small.quantized!.keys()].every((name) => name.endsWith('_proj.weight'))).toBe(true);
  expect(small.weights.get('model.embed_tokens.weight')).toBe(given.weights.get('model.embed_tokens.weight'));
  quantizeModel(given, { blockSize: 16, consume: true });
  expect([...given.weights.keys()]).toEqual([...small.weights.keys()]);
});

test('a tied head may have codes of its own; as floats again the model is untied', () => {
  const small = quantizeModel(model(), { head: true });
  expect(small.quantized!.has('lm_head.weight')).toBe(true);
  expect(small.weights.has('model.embed_tokens.weight')).toBe(true);
  const again = dequantizeModel(small);
  expect(again.config.tieWordEmbeddings).toBe(false);
  expect(again.weights.get('lm_head.weight')!.dims).toEqual([40, 32]);
  expect(again.quantized).toBeUndefined();
});

test('what cannot be rounded is refused by name', () => {
  expect(() => quantizeModel(model(), { blockSize: 128 })).toThrow(
    expect.objectContaining({
      code: 'engine.quantize.wrong_shape',
      message: expect.stringContaining('layers.0.self_attn.q_proj') as string,
    }),
  );
  expect(() => quantizeTensor(gaussian(2, 32, 1), { blockSize: 24 })).toThrow(
    expect.objectContaining({ code: 'engine.quantize.bad_options' }),
  );
  const broken = gaussian(2, 32, 1);
  broken.data[40] = Number.NaN;
  expect(() => quantizeTensor(broken)).toThrow(expect.objectContaining({ code: 'engine.quantize.not_finite' }));
});
