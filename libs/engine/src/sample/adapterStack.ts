import type { Tensor as OrtTensor } from 'onnxruntime-node';
import { floatTensor } from '../graph/session.ts';
import { loraAName, loraBName, moduleName, projectionShape } from '../models/llama.ts';
import { LORA_TARGETS, type LoraWeights, type ModelConfig } from '../types.ts';

/**
 * Several adapters side by side along the rank axis: A `[R, in]` and B `[out, R]` with R the sum of their ranks. A row of
 * the batch uses its own adapter by a scale that is zero in the other adapters' columns, so one pair of products serves
 * rows with different adapters. Adding exact zeros changes no bit, so a row's result does not depend on its neighbours.
 */
export interface AdapterStack {
  readonly rank: number;
  /** Graph inputs by name. */
  readonly feeds: Readonly<Record<string, OrtTensor>>;
  /** Writes one token's row of `lora_scale: [tokens, R]`, which must be zero. */
  readonly select: (scales: Float32Array, token: number, adapter: LoraWeights) => void;
}

/** Stacks adapters that `checkLora` has accepted. A target that an adapter leaves out stays zero, as all do without adapters. */
export function stackAdapters(config: ModelConfig, adapters: readonly LoraWeights[]): AdapterStack {
  const offsets = new Map<LoraWeights, number>();
  let rank = 0;
  for (const adapter of adapters) {
    offsets.set(adapter, rank);
    rank += adapter.config.r;
  }
  rank = Math.max(1, rank);
  const feeds: Record<string, OrtTensor> = {};
  for (let layer = 0; layer < config.numLayers; layer++) {
    for (const target of LORA_TARGETS) {
      const module = moduleName(layer, target);
      const [out, in_] = projectionShape(config, target);
      const a = new Float32Array(rank * in_);
      const b = new Float32Array(out * rank);
      for (const [adapter, offset] of offsets) {
        const pair = adapter.tensors.get(module);
        if (pair === undefined) continue;
        const { r } = adapter.config;
        a.set(pair.a.data, offset * in_);
        for (let o = 0; o < out; o++) b.set(pair.b.data.subarray(o * r, (o + 1) * r), o * rank + offset);
      }
      feeds[loraAName(module)] = floatTensor(a, [rank, in_]);
      feeds[loraBName(module)] = floatTensor(b, [out, rank]);
    }
  }
  const select = (scales: Float32Array, token: number, adapter: LoraWeights): void => {
    const start = token * rank + offsets.get(adapter)!;
    scales.fill(adapter.config.alpha / adapter.config.r, start, start + adapter.config.r);
  };
  return { rank, feeds, select };
}
