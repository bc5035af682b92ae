/** AdamW (https://arxiv.org/abs/1711.05101) with the arithmetic of torch.optim.AdamW, and clipping by global norm. */

export interface Parameter {
  readonly name: string;
  readonly dims: readonly number[];
  /** Updated in place. */
  readonly data: Float32Array;
}

export interface AdamWOptions {
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly weightDecay: number;
}

export interface Moments {
  readonly m: Float32Array;
  readonly v: Float32Array;
}

/** torch.nn.utils.clip_grad_norm_ adds this to the norm it divides by. */
const CLIP_EPS = 1e-6;

/** Euclidean norm over all gradients. */
export function globalNorm(gradients: readonly Float32Array[]): number {
  let total = 0;
  for (const gradient of gradients) {
    let squares = 0;
    for (let i = 0; i < gradient.length; i++) squares += gradient[i]! * gradient[i]!;
    total += squares;
  }
  return Math.sqrt(total);
}

/** Factor that brings gradients of norm `norm` to at most `maxNorm` (0: no clipping). */
export function clipFactor(norm: number, maxNorm: number): number {
  return maxNorm > 0 ? Math.min(1, maxNorm / (norm + CLIP_EPS)) : 1;
}

export class AdamW {
  readonly parameters: readonly Parameter[];
  readonly moments: readonly Moments[];
  readonly #options: AdamWOptions;

  constructor(parameters: readonly Parameter[], options: AdamWOptions) {
    this.parameters = parameters;
    this.#options = options;
    this.moments = parameters.map((p) => ({ m: new Float32Array(p.data.length), v: new Float32Array(p.data.length) }));
  }

  /**
   * One update. `step` counts from 1; `gradients[i]` belongs to parameter i and is read as multiplied by `factor`.
   * Decay applies to matrices only: norms and biases are vectors.
   */
  update(gradients: readonly Float32Array[], step: number, learningRate: number, factor: number): void {
    const [beta1, beta2] = this.#options.betas;
    const { eps, weightDecay } = this.#options;
    const stepSize = learningRate / (1 - beta1 ** step);
    const rootCorrection = Math.sqrt(1 - beta2 ** step);
    this.parameters.forEach((parameter, k) => {
      const gradient = gradients[k]!;
      const { m, v } = this.moments[k]!;
      const { data } = parameter;
      const keep = parameter.dims.length > 1 ? 1 - learningRate * weightDecay : 1;
      for (let i = 0; i < data.length; i++) {
        const g = gradient[i]! * factor;
        const mean = beta1 * m[i]! + (1 - beta1) * g;
        const square = beta2 * v[i]! + (1 - beta2) * g * g;
        m[i] = mean;
        v[i] = square;
        data[i] = data[i]! * keep - (stepSize * mean) / (Math.sqrt(square) / rootCorrection + eps);
      }
    });
  }
}
