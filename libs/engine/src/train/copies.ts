/** Copies of what a run will change: the caller's tensors stay untouched. */
import type { LoraWeights, WeightMap } from '../types.ts';

export function copyLora(lora: LoraWeights): LoraWeights {
  const tensors = new Map(
    [...lora.tensors].map(([module, { a, b }]) => [
      module,
      { a: { dims: a.dims, data: a.data.slice() }, b: { dims: b.dims, data: b.data.slice() } },
    ]),
  );
  return { config: lora.config, tensors };
}

export function copyWeights(weights: WeightMap): WeightMap {
  return new Map([...weights].map(([name, t]) => [name, { dims: t.dims, data: t.data.slice() }]));
}
