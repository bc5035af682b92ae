/** Fresh weights for training a model from nothing. */
import { createRandom } from '../random.ts';
import type { ModelConfig, WeightMap } from '../types.ts';
import { weightShapes } from './llama.ts';

/** Standard deviation of fresh matrices: `initializer_range` of Llama's configuration. */
export const INITIALIZER_RANGE = 0.02;

/**
 * Norms are 1, biases 0, matrices normal with deviation `range`; projections that write into the residual stream are
 * divided by sqrt(2 layers), as in GPT-2, so that the stream's size does not grow with depth. Same seed, same bytes.
 */
export function initWeights(config: ModelConfig, seed: number, range = INITIALIZER_RANGE): WeightMap {
  const random = createRandom(seed);
  const weights: WeightMap = new Map();
  for (const [name, dims] of weightShapes(config)) {
    const data = new Float32Array(dims.reduce((a, b) => a * b, 1));
    if (name.endsWith('norm.weight')) data.fill(1);
    else if (!name.endsWith('.bias')) {
      const residual = name.endsWith('o_proj.weight') || name.endsWith('down_proj.weight');
      const deviation = residual ? range / Math.sqrt(2 * config.numLayers) : range;
      for (let i = 0; i < data.length; i++) {
        // Box and Muller's transform; 1 - u keeps the logarithm finite.
        data[i] = deviation * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
      }
    }
    weights.set(name, { dims, data });
  }
  return weights;
}
