import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EngineError } from '../errors.ts';
import { isJsonObject, shown } from '../json.ts';
import { LORA_TARGETS } from '../types.ts';
import type { LoraPair, LoraTarget, LoraWeights, Tensor, WeightMap } from '../types.ts';
import { decodeSafetensors, encodeSafetensors } from '../weights/safetensors.ts';
import { toUniformRank, type PeftScaling } from './uniformRank.ts';

export const PEFT_CONFIG_FILE = 'adapter_config.json';
export const PEFT_WEIGHTS_FILE = 'adapter_model.safetensors';

const TENSOR_NAME = /^base_model\.model\.(model\.layers\.\d+\.(?:self_attn|mlp)\.([a-z]+_proj))\.lora_([AB])\.weight$/;

/** Starting values that leave the base weights alone; the others (PiSSA, OLoRA, LoftQ, CorDA) change them. */
const PLAIN_INITS: readonly unknown[] = [undefined, null, true, false, 'gaussian', 'orthogonal'];

/** What PEFT can put into `adapter_config.json` and the engine does not compute, with the value that means "not used". */
const UNSUPPORTED: readonly (readonly [field: string, unused: readonly unknown[]])[] = [
  ['use_dora', [false]],
  ['use_qalora', [false]],
  ['use_bdlora', [false]],
  ['lora_bias', [false]],
  ['fan_in_fan_out', [false]],
  ['bias', ['none']],
  ['modules_to_save', []],
  ['layer_replication', []],
  ['target_parameters', []],
  ['trainable_token_indices', []],
  ['alora_invocation_tokens', []],
  ['arrow_config', []],
  ['kasa_config', []],
  ['monteclora_config', []],
  ['velora_config', []],
];

/** The two files of a PEFT adapter folder, in memory. */
export interface PeftFiles {
  /** `adapter_config.json` */
  readonly config: Uint8Array<ArrayBuffer>;
  /** `adapter_model.safetensors` */
  readonly weights: Uint8Array<ArrayBuffer>;
}

function unsupported(what: string): EngineError {
  return new EngineError('engine.adapter.unsupported', `this adapter cannot be used: ${what}`);
}

function isUnused(value: unknown, unused: readonly unknown[]): boolean {
  if (value === undefined || value === null || unused.includes(value)) return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

/**
 * Whether the adapter is for some layers only. PEFT names modules by their last part; a regular expression, a whole path or
 * a list of layers chooses among them.
 */
function isSelective(fields: ReadonlyMap<string, unknown>): boolean {
  const targets = fields.get('target_modules');
  const paths = Array.isArray(targets) && targets.some((target) => String(target).includes('.'));
  if (paths || (typeof targets === 'string' && targets !== 'all-linear')) return true;
  return ['layers_to_transform', 'exclude_modules'].some((field) => !isUnused(fields.get(field), []));
}

function parseConfig(bytes: Uint8Array): { scaling: PeftScaling; selective: boolean } {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new EngineError('engine.adapter.bad_config', `${PEFT_CONFIG_FILE} is not JSON`, { cause });
  }
  if (!isJsonObject(json)) {
    throw new EngineError('engine.adapter.bad_config', `${PEFT_CONFIG_FILE} is not an object`);
  }
  const fields = new Map<string, unknown>(Object.entries(json));
  if (fields.get('peft_type') !== 'LORA')
    throw unsupported(`peft_type ${shown(fields.get('peft_type'))} (supported: LORA)`);
  for (const [field, unused] of UNSUPPORTED) {
    if (!isUnused(fields.get(field), unused)) throw unsupported(`${field} is ${shown(fields.get(field))}`);
  }
  const init = fields.get('init_lora_weights');
  if (!PLAIN_INITS.includes(init)) throw unsupported(`init_lora_weights is ${shown(init)}, which changes the base`);
  const alpha = fields.get('lora_alpha');
  const patterns = Object.entries(fields.get('alpha_pattern') ?? {});
  const alphas = [alpha, ...patterns.map(([, value]) => value as unknown)];
  if (!alphas.every((value) => typeof value === 'number' && value > 0)) {
    throw new EngineError(
      'engine.adapter.bad_config',
      `${PEFT_CONFIG_FILE}: lora_alpha and all of alpha_pattern must be positive numbers`,
    );
  }
  const scaling = {
    alpha: Number(alpha),
    alphaPattern: new Map(patterns.map(([key, value]) => [key, Number(value)])),
    rankStabilised: fields.get('use_rslora') === true,
  };
  return { scaling, selective: isSelective(fields) };
}

function groupTensors(weights: WeightMap): { tensors: Map<string, LoraPair>; targets: LoraTarget[] } {
  const halves = new Map<string, { a?: Tensor; b?: Tensor }>();
  const used = new Set<string>();
  for (const [name, tensor] of weights) {
    const [, module, target, half] = TENSOR_NAME.exec(name) ?? [];
    if (module === undefined || target === undefined || !LORA_TARGETS.some((known) => known === target)) {
      throw unsupported(`tensor ${name} belongs to no module the engine adapts (${LORA_TARGETS.join(', ')})`);
    }
    used.add(target);
    halves.set(module, { ...halves.get(module), ...(half === 'A' ? { a: tensor } : { b: tensor }) });
  }
  const tensors = new Map<string, LoraPair>();
  for (const [module, { a, b }] of halves) {
    if (!a || !b) throw new EngineError('engine.adapter.wrong_shape', `${module} has only one of lora_A and lora_B`);
    tensors.set(module, { a, b });
  }
  return { tensors, targets: LORA_TARGETS.filter((target) => used.has(target)) };
}

/**
 * Reads a LoRA adapter in PEFT's format. Target modules and ranks are taken from the tensors themselves, so a regular
 * expression in `target_modules` or `rank_pattern` needs no interpreting; modules of unlike rank or scale
 * (`rank_pattern`, `alpha_pattern`, `use_rslora`) are brought to one. Whether it fits a model is for `checkLora` to say.
 *
 * @throws EngineError `engine.adapter.unsupported` with the name of the field, `engine.adapter.bad_config`,
 * `engine.adapter.wrong_shape`, `engine.weights.damaged`
 */
export async function decodePeftAdapter(files: { config: Uint8Array; weights: Uint8Array }): Promise<LoraWeights> {
  const { scaling, selective } = parseConfig(files.config);
  const { tensors, targets } = groupTensors(await decodeSafetensors(files.weights, PEFT_WEIGHTS_FILE));
  const { r, alpha, tensors: uniform } = toUniformRank(tensors, scaling);
  return { config: { r, alpha, targets, dropout: 0, ...(selective && { partial: true }) }, tensors: uniform };
}

function peftConfig({ config, tensors }: LoraWeights, baseModelName: string): Record<string, unknown> {
  return {
    base_model_name_or_path: baseModelName,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    lora_alpha: config.alpha,
    lora_dropout: config.dropout,
    modules_to_save: null,
    peft_type: 'LORA',
    r: config.r,
    target_modules: config.partial === true ? [...tensors.keys()].toSorted() : [...config.targets],
    task_type: 'CAUSAL_LM',
    use_dora: false,
    use_rslora: false,
  };
}

/**
 * Lays an adapter out as the two files PEFT's `PeftModel.from_pretrained` reads. The same adapter gives the same bytes.
 * @param baseModelName what PEFT shows as `base_model_name_or_path`
 */
export function encodePeftAdapter(lora: LoraWeights, baseModelName: string): PeftFiles {
  const weights: WeightMap = new Map();
  for (const [module, { a, b }] of lora.tensors) {
    weights.set(`base_model.model.${module}.lora_A.weight`, a);
    weights.set(`base_model.model.${module}.lora_B.weight`, b);
  }
  const config = `${JSON.stringify(peftConfig(lora, baseModelName), null, 2)}\n`;
  return { config: new TextEncoder().encode(config), weights: encodeSafetensors(weights, { format: 'pt' }) };
}

/** {@link decodePeftAdapter} from a folder. @throws EngineError also `engine.adapter.missing_file` */
export async function readPeftFolder(folder: string): Promise<LoraWeights> {
  const read = async (file: string): Promise<Uint8Array> => {
    try {
      return await readFile(join(folder, file));
    } catch (cause) {
      throw new EngineError('engine.adapter.missing_file', `cannot read ${join(folder, file)}`, { cause });
    }
  };
  return await decodePeftAdapter({ config: await read(PEFT_CONFIG_FILE), weights: await read(PEFT_WEIGHTS_FILE) });
}

/** {@link encodePeftAdapter} into a folder, each file by a rename. */
export async function writePeftFolder(folder: string, lora: LoraWeights, baseModelName: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const files = encodePeftAdapter(lora, baseModelName);
  for (const [file, bytes] of [
    [PEFT_WEIGHTS_FILE, files.weights],
    [PEFT_CONFIG_FILE, files.config],
  ] as const) {
    const path = join(folder, file);
    await writeFile(`${path}.${process.pid}.partial`, bytes);
    await rename(`${path}.${process.pid}.partial`, path);
  }
}
