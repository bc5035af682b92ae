/** The head of a reward model: start, check, and PEFT's format, in which it is the `score` of `modules_to_save`. */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EngineError } from '../errors.ts';
import { isJsonObject } from '../json.ts';
import { INITIALIZER_RANGE } from '../models/initWeights.ts';
import { createRandom } from '../random.ts';
import type { LoraWeights, ModelConfig, RewardHead, WeightMap } from '../types.ts';
import { decodeSafetensors, encodeSafetensors } from '../weights/safetensors.ts';
import { decodePeftAdapter, encodePeftAdapter, PEFT_CONFIG_FILE, PEFT_WEIGHTS_FILE, type PeftFiles } from './peft.ts';

const HEAD_TENSOR = 'base_model.model.score.weight';
const HEAD_MODULE = 'score';
/** Names of the dimensions; PEFT has no place for them and does not look at this file. */
export const REWARD_HEAD_FILE = 'reward_head.json';
/** A head is a few scores of one text, not a vocabulary. */
const MAX_DIMENSIONS = 64;

export interface RewardModel {
  readonly lora: LoraWeights;
  readonly head: RewardHead;
}

/** The three files of a reward model's folder, in memory. */
export interface RewardFiles extends PeftFiles {
  /** `reward_head.json` */
  readonly head: Uint8Array<ArrayBuffer>;
}

/**
 * A fresh head as Transformers makes one: normal with deviation 0.02. The same seed gives the same values.
 * @throws EngineError `engine.adapter.bad_config` for names that are no, too many or repeated names
 */
export function initRewardHead(model: ModelConfig, dimensions: readonly string[], seed: number): RewardHead {
  const random = createRandom(seed);
  const data = new Float32Array(dimensions.length * model.hiddenSize);
  for (let i = 0; i < data.length; i++) {
    // Box and Muller's transform; 1 - u keeps the logarithm finite.
    data[i] = INITIALIZER_RANGE * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  }
  const head = { dimensions, weight: { dims: [dimensions.length, model.hiddenSize], data } };
  checkRewardHead(model, head);
  return head;
}

/** @throws EngineError `engine.adapter.bad_config`, `engine.adapter.wrong_shape` or `engine.adapter.not_finite` */
export function checkRewardHead(model: ModelConfig, { dimensions, weight }: RewardHead): void {
  const names = new Set(dimensions);
  if (
    dimensions.length === 0 ||
    dimensions.length > MAX_DIMENSIONS ||
    names.size !== dimensions.length ||
    names.has('')
  ) {
    throw new EngineError(
      'engine.adapter.bad_config',
      `a reward head has 1 to ${MAX_DIMENSIONS} dimensions, each with a name of its own; found ${dimensions.join(', ')}`,
    );
  }
  const needed = [dimensions.length, model.hiddenSize].join(', ');
  if (weight.dims.join(', ') !== needed) {
    throw new EngineError(
      'engine.adapter.wrong_shape',
      `the reward head is [${weight.dims.join(', ')}]; needed is [${needed}]`,
    );
  }
  if (!weight.data.every(Number.isFinite)) {
    throw new EngineError('engine.adapter.not_finite', 'the reward head holds numbers that are not finite');
  }
}

function asBytes(value: unknown): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
}

function asObject(bytes: Uint8Array, file: string): Record<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new EngineError('engine.adapter.bad_config', `${file} is not JSON`, { cause });
  }
  if (!isJsonObject(json)) throw new EngineError('engine.adapter.bad_config', `${file} is not an object`);
  return json;
}

/**
 * Lays a reward model out as PEFT's `PeftModel.from_pretrained` reads it onto an `AutoModelForSequenceClassification` with as
 * many labels as the head has dimensions. The same model gives the same bytes.
 */
export async function encodeRewardModel({ lora, head }: RewardModel, baseModelName: string): Promise<RewardFiles> {
  const files = encodePeftAdapter(lora, baseModelName);
  const config = asObject(files.config, PEFT_CONFIG_FILE);
  const weights: WeightMap = await decodeSafetensors(files.weights, PEFT_WEIGHTS_FILE);
  weights.set(HEAD_TENSOR, head.weight);
  return {
    config: asBytes({ ...config, modules_to_save: [HEAD_MODULE], task_type: 'SEQ_CLS' }),
    weights: encodeSafetensors(weights, { format: 'pt' }),
    head: asBytes({ dimensions: head.dimensions }),
  };
}

function dimensionNames(file: Uint8Array | undefined, count: number): readonly string[] {
  // A head from elsewhere: one output is the reward, several have the names Transformers gives labels.
  if (file === undefined) return count === 1 ? ['reward'] : Array.from({ length: count }, (_, i) => `LABEL_${i}`);
  const names: unknown = asObject(file, REWARD_HEAD_FILE)['dimensions'];
  if (!Array.isArray(names) || names.length !== count || !names.every((name) => typeof name === 'string')) {
    throw new EngineError('engine.adapter.bad_config', `${REWARD_HEAD_FILE}: dimensions must be ${count} names`);
  }
  return names;
}

/**
 * Reads what `encodeRewardModel` or PEFT wrote. Without the third file, dimensions are named `reward` or `LABEL_0`, `LABEL_1`, …
 * @throws EngineError as `decodePeftAdapter`; `engine.adapter.unsupported` when the adapter has no head, or saves other modules
 */
export async function decodeRewardModel(files: {
  config: Uint8Array;
  weights: Uint8Array;
  head?: Uint8Array;
}): Promise<RewardModel> {
  const { modules_to_save: saved, ...config } = asObject(files.config, PEFT_CONFIG_FILE);
  const weights = await decodeSafetensors(files.weights, PEFT_WEIGHTS_FILE);
  const weight = weights.get(HEAD_TENSOR);
  if (weight === undefined || !Array.isArray(saved) || !saved.includes(HEAD_MODULE)) {
    throw new EngineError(
      'engine.adapter.unsupported',
      `a reward model needs "${HEAD_MODULE}" in modules_to_save and the tensor ${HEAD_TENSOR}`,
    );
  }
  weights.delete(HEAD_TENSOR);
  const lora = await decodePeftAdapter({ config: asBytes(config), weights: encodeSafetensors(weights) });
  return { lora, head: { dimensions: dimensionNames(files.head, weight.dims[0] ?? 0), weight } };
}

async function readIfThere(path: string): Promise<Uint8Array | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** {@link decodeRewardModel} from a folder. @throws EngineError also `engine.adapter.missing_file` */
export async function readRewardFolder(folder: string): Promise<RewardModel> {
  const read = async (file: string): Promise<Uint8Array> => {
    const bytes = await readIfThere(join(folder, file));
    if (bytes === undefined) throw new EngineError('engine.adapter.missing_file', `cannot read ${join(folder, file)}`);
    return bytes;
  };
  const head = await readIfThere(join(folder, REWARD_HEAD_FILE));
  const files = { config: await read(PEFT_CONFIG_FILE), weights: await read(PEFT_WEIGHTS_FILE) };
  return decodeRewardModel(head === undefined ? files : { ...files, head });
}

/** {@link encodeRewardModel} into a folder, each file by a rename. */
export async function writeRewardFolder(folder: string, model: RewardModel, baseModelName: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const files = await encodeRewardModel(model, baseModelName);
  for (const [file, bytes] of [
    [PEFT_WEIGHTS_FILE, files.weights],
    [REWARD_HEAD_FILE, files.head],
    [PEFT_CONFIG_FILE, files.config],
  ] as const) {
    const path = join(folder, file);
    await writeFile(`${path}.${process.pid}.partial`, bytes);
    await rename(`${path}.${process.pid}.partial`, path);
  }
}
