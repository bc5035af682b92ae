import { EngineError } from '../errors.ts';
import { createRandom } from '../random.ts';
import type { BaseModel, LoraConfig, LoraPair, LoraWeights, ModelConfig, Tensor, WeightMap } from '../types.ts';
import { moduleName, projectionShape } from '../models/llama.ts';
import { dequantizeTensor } from '../weights/quantize.ts';

/** Above this, a low-rank update is no longer low-rank for any model the engine loads. */
const MAX_RANK = 1024;

function checkConfig(config: LoraConfig): void {
  if (!Number.isInteger(config.r) || config.r < 1 || config.r > MAX_RANK) {
    throw new EngineError(
      'engine.adapter.bad_config',
      `LoRA r must be an integer from 1 to ${MAX_RANK}, found ${config.r}`,
    );
  }
  if (!(config.alpha > 0)) {
    throw new EngineError('engine.adapter.bad_config', `LoRA alpha must be positive, found ${config.alpha}`);
  }
  if (config.targets.length === 0 || new Set(config.targets).size !== config.targets.length) {
    throw new EngineError('engine.adapter.bad_config', 'LoRA targets must name at least one module, each once');
  }
}

/**
 * A fresh adapter as PEFT makes it: A Kaiming-uniform with a = sqrt(5), that is uniform in ±1/sqrt(in); B zero, so the model
 * is unchanged until the first step (https://arxiv.org/abs/2106.09685, section 4.1). The same seed gives the same values.
 *
 * @returns for each layer and target A `[r, in]` and B `[out, r]`
 * @throws EngineError `engine.adapter.bad_config`
 */
export function initLora(model: ModelConfig, config: LoraConfig, seed: number): LoraWeights {
  checkConfig(config);
  const random = createRandom(seed);
  const tensors = new Map<string, LoraPair>();
  for (let layer = 0; layer < model.numLayers; layer++) {
    for (const target of config.targets) {
      const [out, in_] = projectionShape(model, target);
      const bound = 1 / Math.sqrt(in_);
      const a = new Float32Array(config.r * in_);
      for (let i = 0; i < a.length; i++) a[i] = (2 * random() - 1) * bound;
      tensors.set(moduleName(layer, target), {
        a: { dims: [config.r, in_], data: a },
        b: { dims: [out, config.r], data: new Float32Array(out * config.r) },
      });
    }
  }
  return { config, tensors };
}

function hasDims(tensor: Tensor, rows: number, columns: number): boolean {
  return tensor.dims.length === 2 && tensor.dims[0] === rows && tensor.dims[1] === columns;
}

/** Which modules there must be: all of them, or some known ones if the adapter says that it is partial. */
function checkModules(model: ModelConfig, { config, tensors }: LoraWeights): void {
  const { targets } = config;
  if (config.partial !== true && tensors.size !== model.numLayers * targets.length) {
    throw new EngineError(
      'engine.adapter.wrong_shape',
      `the adapter has ${tensors.size} modules; this model needs ${model.numLayers} layers of ${targets.join(', ')}`,
    );
  }
  const known = new Set(targets.flatMap((t) => Array.from({ length: model.numLayers }, (_, l) => moduleName(l, t))));
  const foreign = [...tensors.keys()].find((name) => !known.has(name));
  if (foreign !== undefined || tensors.size === 0) {
    throw new EngineError('engine.adapter.wrong_shape', `this model has no module ${foreign ?? 'of the adapter'}`);
  }
}

/**
 * Checks that an adapter fits a model: every layer and every target (some of them, if partial), the right shapes, finite
 * numbers.
 * @throws EngineError `engine.adapter.bad_config`, `engine.adapter.wrong_shape`, `engine.adapter.not_finite`
 */
export function checkLora(model: ModelConfig, lora: LoraWeights): void {
  checkConfig(lora.config);
  const { r, targets } = lora.config;
  checkModules(model, lora);
  for (let layer = 0; layer < model.numLayers; layer++) {
    for (const target of targets) {
      const name = moduleName(layer, target);
      const pair = lora.tensors.get(name);
      if (pair === undefined) continue;
      const [out, in_] = projectionShape(model, target);
      if (!hasDims(pair.a, r, in_) || !hasDims(pair.b, out, r)) {
        throw new EngineError(
          'engine.adapter.wrong_shape',
          `${name}: A is [${pair.a.dims.join(', ')}] and B [${pair.b.dims.join(', ')}]; needed are [${r}, ${in_}] and [${out}, ${r}]`,
        );
      }
      if (!pair.a.data.every(Number.isFinite) || !pair.b.data.every(Number.isFinite)) {
        throw new EngineError('engine.adapter.not_finite', `${name} holds numbers that are not finite`);
      }
    }
  }
}

/** `weight + scale * B A`, summed in double precision. Shapes `[out, in]`, `[out, r]`, `[r, in]`. */
function addLowRank(weight: Tensor, pair: LoraPair, scale: number): Tensor {
  const [out = 0, in_ = 0] = weight.dims;
  const r = pair.a.dims[0] ?? 0;
  const data = new Float32Array(weight.data.length);
  const row = new Float64Array(in_);
  for (let o = 0; o < out; o++) {
    row.set(weight.data.subarray(o * in_, (o + 1) * in_));
    for (let k = 0; k < r; k++) {
      const factor = scale * pair.b.data[o * r + k]!;
      for (let i = 0, at = k * in_; i < in_; i++, at++) row[i]! += factor * pair.a.data[at]!;
    }
    data.set(row, o * in_);
  }
  return { dims: weight.dims, data };
}

/**
 * A model with the adapter folded into its weights: W + (alpha / r) B A. The given model and adapter stay as they are;
 * weights that no module adapts are shared with the result, not copied. What is adapted of a 4-bit base becomes floats.
 *
 * @throws EngineError as {@link checkLora}
 */
export function mergeLora(model: BaseModel, lora: LoraWeights): BaseModel {
  checkLora(model.config, lora);
  const weights: WeightMap = new Map(model.weights);
  const quantized = new Map(model.quantized);
  for (const [name, pair] of lora.tensors) {
    const key = `${name}.weight`;
    const codes = quantized.get(key);
    const weight = codes === undefined ? model.weights.get(key)! : dequantizeTensor(codes);
    weights.set(key, addLowRank(weight, pair, lora.config.alpha / lora.config.r));
    quantized.delete(key);
  }
  return { config: model.config, weights, ...(quantized.size > 0 && { quantized }) };
}
