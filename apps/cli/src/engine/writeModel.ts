/** `tuneloop merge` and `tuneloop export`: models and adapters in the formats of others. */
import { copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { mergeLora } from '@tuneloop/engine/adapters/lora';
import { readPeftFolder, writePeftFolder } from '@tuneloop/engine/adapters/peft';
import type { BaseModel } from '@tuneloop/engine/types';
import { writeModelFolder } from '@tuneloop/engine/weights/loadModel';
import { type Base, type BaseAndAdapter, baseOfAdapter, loadBaseAndAdapter } from './baseModel.ts';

/** What a folder needs beside weights and config.json; copied where the base has it. */
const COMPANIONS = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
  'generation_config.json',
];

const isMissing = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'ENOENT';

async function tokenIds(base: Base): Promise<{ bos?: number; eos?: number }> {
  const config = JSON.parse(await readFile(join(base.model.folder, 'config.json'), 'utf8')) as Record<string, unknown>;
  const [eos] = base.eosTokenIds;
  const bos = config['bos_token_id'];
  return { ...(typeof bos === 'number' ? { bos } : {}), ...(eos === undefined ? {} : { eos }) };
}

async function writeFolder(base: Base, model: BaseModel, output: string): Promise<void> {
  await writeModelFolder(output, model, await tokenIds(base));
  for (const name of COMPANIONS) {
    await copyFile(join(base.model.folder, name), join(output, name)).catch((error: unknown) => {
      if (!isMissing(error)) throw error;
    });
  }
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

/** The adapter alone, without what training left beside it. */
export async function writeAdapter(adapter: string, model: string | undefined, output: string): Promise<void> {
  await writePeftFolder(output, await readPeftFolder(adapter), model ?? (await baseOfAdapter(adapter)));
}
