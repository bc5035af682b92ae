/** A base model with all that is needed to write texts for it. */
import { statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PEFT_CONFIG_FILE, readPeftFolder } from '@tuneloop/engine/adapters/peft';
import { type ChatFormat, createChatFormat } from '@tuneloop/engine/chat/chatFormat';
import { loadTokenizerFolder, type Tokenizer } from '@tuneloop/engine/tokenizer/tokenizer';
import type { LoraWeights } from '@tuneloop/engine/types';
import { type LoadedModel, loadModelFolder } from '@tuneloop/engine/weights/loadModel';

const NANO_FOLDER = fileURLToPath(new URL('../../../../models/nano/base/', import.meta.url));

export interface Base {
  readonly model: LoadedModel;
  readonly tokenizer: Tokenizer;
  /** Absent when the model has no chat template. */
  readonly chat?: ChatFormat;
  /** Every token that ends an answer. */
  readonly eosTokenIds: readonly number[];
}

/**
 * Loads `nano` (the sample model), or a folder in Hugging Face's layout.
 * @throws EngineError naming what is missing or not supported; Error when there is no such model
 */
export async function loadBase(name: string): Promise<Base> {
  const folder = name === 'nano' ? NANO_FOLDER : name;
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new Error(`there is no model ${name}: give nano or a folder with config.json, weights and tokenizer.json`);
  }
  const model = await loadModelFolder(folder);
  const tokenizer = await loadTokenizerFolder(folder);
  const own = tokenizer.eosTokenId === undefined ? [] : [tokenizer.eosTokenId];
  const eosTokenIds = [...new Set([...own, ...model.eosTokenIds])];
  return {
    model,
    tokenizer,
    eosTokenIds,
    ...(tokenizer.chatTemplate === undefined ? {} : { chat: createChatFormat({ tokenizer, eosTokenIds }) }),
  };
}

/** Numbers in all weights of a model. */
export function parameterCount(base: Base): number {
  let count = 0;
  for (const { data } of base.model.weights.values()) count += data.length;
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
): Promise<BaseAndAdapter> {
  const lora = adapter === undefined ? undefined : await readPeftFolder(adapter);
  if (model === undefined && adapter === undefined) throw new Error('give --model, --adapter or both');
  const name = model ?? (await baseOfAdapter(adapter!));
  return { name, base: await loadBase(name), ...(lora === undefined ? {} : { lora }) };
}
