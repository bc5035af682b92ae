import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type ChatFormat, createChatFormat } from '@tuneloop/engine/chat/chatFormat';
import { loadTokenizerFolder } from '@tuneloop/engine/tokenizer/tokenizer';
import { loadModelFolder, type LoadedModel } from '@tuneloop/engine/weights/loadModel';

export interface Base {
  readonly model: LoadedModel;
  readonly chat: ChatFormat;
}

/** @throws EngineError naming what is wrong with the folder */
export async function loadBase(folder: string): Promise<Base> {
  const model = await loadModelFolder(folder);
  const tokenizer = await loadTokenizerFolder(folder);
  const own = tokenizer.eosTokenId === undefined ? [] : [tokenizer.eosTokenId];
  // The same tokens end an answer as where it is served.
  const eosTokenIds = [...new Set([...own, ...model.eosTokenIds])];
  return { model, chat: createChatFormat({ tokenizer, eosTokenIds }) };
}

const MODEL_FILES = /\.(safetensors|json|jinja)$/;

/** SHA-256 over the names and contents of the base's files: a job's manifest names what it was trained on. */
export async function baseFingerprint(folder: string): Promise<string> {
  const hash = createHash('sha256');
  const files = (await readdir(folder)).filter((name) => MODEL_FILES.test(name));
  for (const name of files.toSorted()) {
    hash.update(`${name}\0`);
    for await (const chunk of createReadStream(join(folder, name))) hash.update(chunk as Buffer);
  }
  return hash.digest('hex');
}
