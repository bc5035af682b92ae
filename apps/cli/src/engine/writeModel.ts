/** `tuneloop merge` and `tuneloop export`: models and adapters in the formats of others. */
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { mergeLora } from '@tuneloop/engine/adapters/lora';
import { readPeftFolder, writePeftFolder } from '@tuneloop/engine/adapters/peft';
import { readTokenizerFiles } from '@tuneloop/engine/tokenizer/tokenizer';
import type { BaseModel } from '@tuneloop/engine/types';
import { writeModelFolder } from '@tuneloop/engine/weights/loadModel';
import { writeGgufAdapter, writeGgufModel } from '@tuneloop/engine/weights/writeGguf';
import { type Base, type BaseAndAdapter, baseOfAdapter, loadBaseAndAdapter } from './baseModel.ts';

type JsonObject = Record<string, unknown>;

/** What a folder needs beside weights and config.json; copied where the base has it. */
const COMPANIONS = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
  'generation_config.json',
];

const isMissing = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'ENOENT';

async function copyIfThere(from: string, to: string): Promise<void> {
  await copyFile(from, to).catch((error: unknown) => {
    if (!isMissing(error)) throw error;
  });
}

async function tokenIds({ source, tokenizer, eosTokenIds }: Base): Promise<{ bos?: number; eos?: number }> {
  const [eos] = eosTokenIds;
  let bos: unknown = tokenizer.tokenId(tokenizer.namedTokens['bos_token'] ?? '');
  if (source.kind === 'folder') {
    bos = (JSON.parse(await readFile(join(source.folder, 'config.json'), 'utf8')) as JsonObject)['bos_token_id'];
  }
  return { ...(typeof bos === 'number' ? { bos } : {}), ...(eos === undefined ? {} : { eos }) };
}

async function writeFolder(base: Base, model: BaseModel, output: string): Promise<void> {
  await writeModelFolder(output, model, await tokenIds(base));
  const { source } = base;
  if (source.kind === 'folder') {
    for (const name of COMPANIONS) await copyIfThere(join(source.folder, name), join(output, name));
    return;
  }
  const json = (value: JsonObject): string => `${JSON.stringify(value, null, 1)}\n`;
  await writeFile(join(output, 'tokenizer.json'), json(source.tokenizer.json));
  const config = { tokenizer_class: 'PreTrainedTokenizerFast', ...source.tokenizer.config };
  await writeFile(join(output, 'tokenizer_config.json'), json(config));
}

function merged({ base, lora }: BaseAndAdapter): BaseModel {
  return lora === undefined ? base.model : mergeLora(base.model, lora);
}

/** A folder that Transformers and this engine load: the base, with the adapter folded in if there is one. */
export async function writeMerged(
  model: string | undefined,
  adapter: string | undefined,
  output: string,
): Promise<void> {
  const loaded = await loadBaseAndAdapter(model, adapter);
  await writeFolder(loaded.base, merged(loaded), output);
}

export type GgufType = 'F32' | 'F16' | 'Q8_0';

/** A GGUF file of the model, with the adapter folded in if there is one. */
export async function writeGguf(
  model: string,
  adapter: string | undefined,
  output: string,
  type: GgufType | undefined,
): Promise<void> {
  const loaded = await loadBaseAndAdapter(model, adapter);
  const { source, eosTokenIds } = loaded.base;
  const tokenizer = source.kind === 'gguf' ? source.tokenizer : await readTokenizerFiles(source.folder);
  const options = { name: basename(model), tokenizer, eosTokenIds, ...(type === undefined ? {} : { type }) };
  await mkdir(dirname(output), { recursive: true });
  await writeGgufModel(output, merged(loaded), options);
}

/** The adapter as llama.cpp's `--lora` takes it. */
export async function writeAdapterGguf(
  adapter: string,
  output: string,
  type: 'F32' | 'F16' | undefined,
): Promise<void> {
  const { base, lora } = await loadBaseAndAdapter(undefined, adapter);
  const options = { name: basename(adapter), ...(type === undefined ? {} : { type }) };
  await mkdir(dirname(output), { recursive: true });
  await writeGgufAdapter(output, base.model.config, lora!, options);
}

/** The adapter alone, without what training left beside it. */
export async function writeAdapter(adapter: string, model: string | undefined, output: string): Promise<void> {
  await writePeftFolder(output, await readPeftFolder(adapter), model ?? (await baseOfAdapter(adapter)));
}
