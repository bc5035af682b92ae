import { EngineError } from '../errors.ts';
import type { LoraPair } from '../types.ts';

/** How PEFT scales each module's update. */
export interface PeftScaling {
  /** `lora_alpha` */
  readonly alpha: number;
  /** Regular expressions of module names, or of how they end, with another alpha: `alpha_pattern`. */
  readonly alphaPattern: ReadonlyMap<string, number>;
  /** Divide by the root of the rank instead of the rank (https://arxiv.org/abs/2312.03732): `use_rslora`. */
  readonly rankStabilised: boolean;
}

function patternMatcher(key: string): RegExp {
  try {
    return new RegExp(`^(?:.*\\.)?(?:${key})$`);
  } catch (cause) {
    throw new EngineError('engine.adapter.unsupported', `alpha_pattern ${key} is no regular expression known here`, {
      cause,
    });
  }
}

/** The same matrices with more rows of A and columns of B, all zero, and B multiplied. */
function widened({ a, b }: LoraPair, r: number, factor: number): LoraPair {
  const [own = 0, in_ = 0] = a.dims;
  const out = b.dims[0] ?? 0;
  if (own === r && factor === 1) return { a, b };
  const wideA = new Float32Array(r * in_);
  wideA.set(a.data);
  const wideB = new Float32Array(out * r);
  for (let row = 0; row < out; row++) {
    for (let k = 0; k < own; k++) wideB[row * r + k] = factor * b.data[row * own + k]!;
  }
  return { a: { dims: [r, in_], data: wideA }, b: { dims: [out, r], data: wideB } };
}

/**
 * Brings modules of unlike rank and scale to one rank and one alpha, as the engine has them, with the same updates: missing
 * ranks are zeros in A and B, whose gradients are zero too, and what a module's scale is more or less is taken into B. A
 * training that goes on from there moves such a B by steps of the common scale.
 *
 * @returns the largest rank, and the alpha by which alpha / r is the scale of most of the modules
 */
export function toUniformRank(
  tensors: ReadonlyMap<string, LoraPair>,
  scaling: PeftScaling,
): { r: number; alpha: number; tensors: Map<string, LoraPair> } {
  const patterns = [...scaling.alphaPattern].map(([key, alpha]) => ({ matcher: patternMatcher(key), alpha }));
  const ranks = new Map([...tensors].map(([module, { a }]) => [module, a.dims[0] ?? 0]));
  const scales = new Map<string, number>();
  const votes = new Map<number, number>();
  for (const [module, rank] of ranks) {
    const alpha = patterns.find(({ matcher }) => matcher.test(module))?.alpha ?? scaling.alpha;
    const scale = alpha / (scaling.rankStabilised ? Math.sqrt(rank) : rank);
    scales.set(module, scale);
    votes.set(scale, (votes.get(scale) ?? 0) + 1);
  }
  const common = [...votes].reduce((best, vote) => (vote[1] > best[1] ? vote : best), [1, 0])[0];
  const r = Math.max(...ranks.values());
  const uniform = new Map<string, LoraPair>();
  for (const [module, pair] of tensors) uniform.set(module, widened(pair, r, scales.get(module)! / common));
  return { r, alpha: common * r, tensors: uniform };
}
