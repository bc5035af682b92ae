/** A base model with all that is needed to write texts for it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PEFT_CONFIG_FILE, readPeftFolder } from '@tuneloop/engine/adapters/peft';
import { type ChatFormat, createChatFormat } from '@tuneloop/engine/chat/chatFormat';
import type { HubProgress } from '@tuneloop/engine/hub/settings';
import { ggufTokenizerFiles } from '@tuneloop/engine/tokenizer/fromGguf';
import {
  createTokenizer,
  loadTokenizerFolder,
  type Tokenizer,
  type TokenizerFiles,
} from '@tuneloop/engine/tokenizer/tokenizer';
import type { BaseModel, LoraWeights } from '@tuneloop/engine/types';
import { findModel } from '@tuneloop/engine/weights/loadByName';
import { loadGguf } from '@tuneloop/engine/weights/loadGguf';
import { loadModelFolder } from '@tuneloop/engine/weights/loadModel';
import { quantizeModel } from '@tuneloop/engine/weights/quantize';

const NANO_FOLDER = fileURLToPath(new URL('../../../../models/nano/base/', import.meta.url));

/** Where a base came from: what a merged model's folder is completed with. */
export type BaseSource =
  | { readonly kind: 'folder'; readonly folder: string }
  | { readonly kind: 'gguf'; readonly path: string; readonly tokenizer: TokenizerFiles };

export interface Base {
  readonly model: BaseModel;
  readonly source: BaseSource;
  readonly tokenizer: Tokenizer;
  /** Absent when the model has no chat template. */
  readonly chat?: ChatFormat;
  /** Every token that ends an answer. */
  readonly eosTokenIds: readonly number[];
}

export interface LoadOptions {
  /** Hold the projections in 4 bits: for training adapters in less memory. */
  readonly fourBit?: boolean;
  /** Told of each file that is being fetched (default: a line on standard error). */
  readonly onFile?: (text: string) => void;
}

interface Parts {
  readonly model: BaseModel;
  readonly source: BaseSource;
  readonly tokenizer: Tokenizer;
  readonly ends: readonly number[];
}

async function folderParts(folder: string): Promise<Parts> {
  const model = await loadModelFolder(folder);
  const tokenizer = await loadTokenizerFolder(folder);
  return { model, tokenizer, source: { kind: 'folder', folder }, ends: model.eosTokenIds };
}

async function ggufParts(path: string, keepQuantized: boolean): Promise<Parts> {
  const { metadata, eosTokenIds, ...model } = await loadGguf(path, { keepQuantized });
  const files = ggufTokenizerFiles(metadata);
  const tokenizer = createTokenizer(files.json, files.config);
  return { model, tokenizer, source: { kind: 'gguf', path, tokenizer: files }, ends: eosTokenIds };
}

/** Says once for each file that it is being fetched: models are large. */
function announceFiles(say: (text: string) => void): (progress: HubProgress) => void {
  const named = new Set<string>();
  return ({ file, totalBytes }) => {
    if (named.has(file)) return;
    named.add(file);
    say(`downloading ${file}${totalBytes === undefined ? '' : ` (${(totalBytes / 1e6).toFixed(1)} MB)`}`);
  };
}

/**
 * Loads `nano` (the sample model), a folder in Hugging Face's layout, a GGUF file, or a model of the hub by its id.
 * @throws EngineError naming what is missing or not supported
 */
export async function loadBase(
  name: string,
  { fourBit = false, onFile = console.error }: LoadOptions = {},
): Promise<Base> {
  const place = await findModel(name === 'nano' ? NANO_FOLDER : name, { onProgress: announceFiles(onFile) });
  const { model, source, tokenizer, ends } =
    place.kind === 'folder' ? await folderParts(place.folder) : await ggufParts(place.path, fourBit);
  const own = tokenizer.eosTokenId === undefined ? [] : [tokenizer.eosTokenId];
  const eosTokenIds = [...new Set([...own, ...ends])];
  return {
    // What the file holds in 4 bits already stays as it is.
    model: fourBit ? quantizeModel(model, { consume: true }) : model,
    source,
    tokenizer,
    eosTokenIds,
    ...(tokenizer.chatTemplate === undefined ? {} : { chat: createChatFormat({ tokenizer, eosTokenIds }) }),
  };
}

/** Numbers in all weights of a model. */
export function parameterCount({ model }: Base): number {
  let count = 0;
  for (const { data } of model.weights.values()) count += data.length;
  // A tied head in 4 bits is the embedding once more.
  for (const [name, { codes }] of model.quantized ?? []) if (!model.weights.has(name)) count += 2 * codes.length;
  return count;
}

/** The base that an adapter names: what `--model` is when only `--adapter` is given. */
export async function baseOfAdapter(adapter: string): Promise<string> {
  const path = join(adapter, PEFT_CONFIG_FILE);
  const config = JSON.parse(await readFile(path, 'utf8')) as { base_model_name_or_path?: unknown };
  const name = config.base_model_name_or_path;
  if (typeof name === 'string' && name !== '') return name;
  throw new Error(`${path} does not name its base: give --model`);
}

export interface BaseAndAdapter {
  readonly name: string;
  readonly base: Base;
  readonly lora?: LoraWeights;
}

/** Loads what `--model` and `--adapter` name; one of them is enough. @throws EngineError, Error with a message for the terminal */
export async function loadBaseAndAdapter(
  model: string | undefined,
  adapter: string | undefined,
  options: LoadOptions = {},
): Promise<BaseAndAdapter> {
  const lora = adapter === undefined ? undefined : await readPeftFolder(adapter);
  if (model === undefined && adapter === undefined) throw new Error('give --model, --adapter or both');
  const name = model ?? (await baseOfAdapter(adapter!));
  return { name, base: await loadBase(name, options), ...(lora === undefined ? {} : { lora }) };
}
