import { stat } from 'node:fs/promises';
import { downloadModel, isHubName } from '../hub/repository.ts';
import type { HubOptions } from '../hub/settings.ts';
import { EngineError } from '../errors.ts';
import { ggufTokenizerFiles } from '../tokenizer/fromGguf.ts';
import { createTokenizer, readTokenizerFiles, type Tokenizer, type TokenizerFiles } from '../tokenizer/tokenizer.ts';
import type { BaseModel } from '../types.ts';
import { loadGguf } from './loadGguf.ts';
import { loadModelFolder } from './loadModel.ts';

/** Where a model lies on disk. */
export type ModelPlace =
  | { readonly kind: 'folder'; readonly folder: string }
  | { readonly kind: 'gguf'; readonly path: string };

/** A model with all that texts for it need. */
export interface NamedModel {
  readonly model: BaseModel;
  readonly tokenizer: Tokenizer;
  /** What the tokenizer was made of: for writing the model in another format. */
  readonly tokenizerFiles: TokenizerFiles;
  /** Tokens that end a text. */
  readonly eosTokenIds: readonly number[];
  readonly place: ModelPlace;
}

export interface LoadModelOptions extends HubOptions {
  /** Of a GGUF file: hold its 4-bit matrices in 4 bits (default false). */
  readonly keepQuantized?: boolean;
}

/**
 * Finds a model by what people call it: a folder in Hugging Face's layout, a GGUF file, or an id of the hub
 * (`organisation/name`, or `organisation/name/file.gguf`), which is downloaded. A path on disk goes before an id.
 *
 * @throws EngineError `engine.model.missing_file` when it is none of them, `engine.hub.*`
 */
export async function findModel(name: string, options: HubOptions = {}): Promise<ModelPlace> {
  const found = await stat(name).catch(() => undefined);
  if (found?.isDirectory() === true) return { kind: 'folder', folder: name };
  if (found !== undefined) return { kind: 'gguf', path: name };
  if (!isHubName(name)) {
    throw new EngineError(
      'engine.model.missing_file',
      `there is no model ${name}: give a folder with config.json and safetensors, a .gguf file, or a hub id (organisation/name)`,
    );
  }
  const path = await downloadModel(name, options);
  return name.endsWith('.gguf') ? { kind: 'gguf', path } : { kind: 'folder', folder: path };
}

/**
 * Loads a model and its tokenizer from a folder, a GGUF file or the hub.
 * @throws EngineError as {@link findModel}, `loadModelFolder`, `loadGguf` and `createTokenizer`
 */
export async function loadModel(name: string, options: LoadModelOptions = {}): Promise<NamedModel> {
  const place = await findModel(name, options);
  if (place.kind === 'gguf') {
    const { metadata, eosTokenIds, ...model } = await loadGguf(place.path, {
      keepQuantized: options.keepQuantized === true,
    });
    const tokenizerFiles = ggufTokenizerFiles(metadata);
    const tokenizer = createTokenizer(tokenizerFiles.json, tokenizerFiles.config);
    return { model, tokenizer, tokenizerFiles, eosTokenIds, place };
  }
  const tokenizerFiles = await readTokenizerFiles(place.folder);
  const tokenizer = createTokenizer(tokenizerFiles.json, tokenizerFiles.config);
  const { eosTokenIds, ...model } = await loadModelFolder(place.folder);
  return { model, tokenizer, tokenizerFiles, eosTokenIds, place };
}
