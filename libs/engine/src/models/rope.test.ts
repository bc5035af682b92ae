import { expect, it } from 'vitest';
import { readFixture, relativeError } from '../../fixtures/fixtures.ts';
import { parseModelConfig, modelConfigToJson } from '../weights/modelConfig.ts';
import { ropeAngles } from './rope.ts';

interface Expected {
  positions: number[];
  cases: Record<string, { rope_parameters: Record<string, unknown>; cos: number[][]; sin: number[][] }>;
}

const { positions, cases } = await readFixture<Expected>('rope.json');
const llama = {
  architectures: ['LlamaForCausalLM'],
  hidden_size: 64,
  intermediate_size: 64,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  vocab_size: 64,
  max_position_embeddings: 256,
};

it.each(Object.entries(cases))('turns as Transformers does: %s', (_, { rope_parameters, cos, sin }) => {
  const config = parseModelConfig({ ...llama, rope_parameters });
  expect(parseModelConfig(modelConfigToJson(config))).toEqual(config);
  const angles = ropeAngles(config, 256);
  const at = (table: Float32Array): number[] => positions.flatMap((p) => [...table.subarray(p * 16, (p + 1) * 16)]);
  // Transformers multiplies position and frequency in fp32.
  expect(relativeError(at(angles.cos), cos.flat())).toBeLessThan(1e-5);
  expect(relativeError(at(angles.sin), sin.flat())).toBeLessThan(1e-5);
});

it('refuses dynamic scaling where it would depend on the length', () => {
  const config = parseModelConfig({ ...llama, rope_scaling: { type: 'dynamic', factor: 2 } });
  expect(() => ropeAngles(config, 257)).toThrow(/257 positions with rope_type dynamic/);
});
