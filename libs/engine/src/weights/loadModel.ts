import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EngineError } from '../errors.ts';
import type { BaseModel, WeightMap } from '../types.ts';
import { modelConfigToJson, parseModelConfig } from './modelConfig.ts';
import { weightShapes } from '../models/llama.ts';
import { dequantizeModel } from './quantize.ts';
import { listWeightFiles, readSafetensors, readSafetensorsHeader, writeSafetensors } from './safetensors.ts';

/** A model read from a Hugging Face folder, and where its tokenizer lies when it has one. */
export interface LoadedModel extends BaseModel {
  readonly folder: string;
  /** Path of `tokenizer.json`. */
  readonly tokenizerPath?: string;
  /** Path of `tokenizer_config.json`, which may hold the chat template. */
  readonly tokenizerConfigPath?: string;
  /** Tokens that end a text, from `config.json` and `generation_config.json`. */
  readonly eosTokenIds: readonly number[];
}

async function readJson(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new EngineError('engine.model.missing_file', `cannot read ${path}`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new EngineError('engine.model.bad_config', `${path} is not JSON`, { cause });
  }
}

async function fileOrNothing(path: string): Promise<string | undefined> {
  return await stat(path).then(
    () => path,
    () => undefined,
  );
}

function eosOf(json: unknown): number[] {
  if (typeof json !== 'object' || json === null || !('eos_token_id' in json)) return [];
  const ids = Array.isArray(json.eos_token_id) ? json.eos_token_id : [json.eos_token_id];
  return ids.filter((id) => typeof id === 'number');
}

async function readWeights(folder: string, shapes: ReadonlyMap<string, readonly number[]>): Promise<WeightMap> {
  const found: WeightMap = new Map();
  for (const path of await listWeightFiles(folder)) {
    const { entries } = await readSafetensorsHeader(path);
    // Tied heads, rotary tables and other extras that some checkpoints carry are not read at all.
    const wanted = [...entries.keys()].filter((name) => shapes.has(name));
    for (const [name, tensor] of await readSafetensors(path, wanted)) found.set(name, tensor);
  }
  const weights: WeightMap = new Map();
  for (const [name, shape] of shapes) {
    const tensor = found.get(name);
    if (tensor === undefined) throw new EngineError('engine.weights.missing', `${folder} has no tensor named ${name}`);
    if (tensor.dims.join() !== shape.join()) {
      throw new EngineError(
        'engine.weights.wrong_shape',
        `${name} is [${tensor.dims.join(', ')}], but config.json asks for [${shape.join(', ')}]`,
      );
    }
    weights.set(name, tensor);
  }
  return weights;
}

/**
 * Loads a model from a folder with `config.json` and safetensors (one file or shards), weights widened to fp32.
 *
 * @throws EngineError `engine.model.unsupported` with the name of what cannot be computed, `engine.model.bad_config`,
 * `engine.model.missing_file`, `engine.weights.missing | damaged | wrong_shape | unsupported_dtype`
 */
export async function loadModelFolder(folder: string): Promise<LoadedModel> {
  const json = await readJson(join(folder, 'config.json'));
  const config = parseModelConfig(json);
  const generation = await fileOrNothing(join(folder, 'generation_config.json'));
  const eosTokenIds = [...new Set([...eosOf(json), ...(generation ? eosOf(await readJson(generation)) : [])])];
  const tokenizerPath = await fileOrNothing(join(folder, 'tokenizer.json'));
  const tokenizerConfigPath = await fileOrNothing(join(folder, 'tokenizer_config.json'));
  return {
    folder,
    config,
    weights: await readWeights(folder, weightShapes(config)),
    eosTokenIds,
    ...(tokenizerPath && { tokenizerPath }),
    ...(tokenizerConfigPath && { tokenizerConfigPath }),
  };
}

/**
 * Writes `config.json` and `model.safetensors` (fp32), which Transformers and {@link loadModelFolder} read back. A 4-bit model
 * is written as the floats that its codes stand for.
 */
export async function writeModelFolder(
  folder: string,
  model: BaseModel,
  ids: { bos?: number; eos?: number } = {},
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const { config, weights } = model.quantized === undefined ? model : dequantizeModel(model);
  await writeSafetensors(join(folder, 'model.safetensors'), weights, { format: 'pt' });
  await writeFile(join(folder, 'config.json'), `${JSON.stringify(modelConfigToJson(config, ids), null, 2)}\n`);
}
