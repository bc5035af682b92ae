import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { type AdapterManifest, adapterManifest } from '@tuneloop/contracts/responses/serve';
import { checkLora } from '@tuneloop/engine/adapters/lora';
import { decodePeftAdapter, PEFT_CONFIG_FILE, PEFT_WEIGHTS_FILE } from '@tuneloop/engine/adapters/peft';
import { EngineError } from '@tuneloop/engine/errors';
import { type BlobRef, type BlobStore, isKeyOfProject } from '@tuneloop/runtime/blobs/blobStore';
import { AppError } from '@tuneloop/runtime/errors';
import { fieldErrors } from '@tuneloop/runtime/zodIssues';
import { readBaseConfig } from './baseModels.ts';

/**
 * A checkpoint's artefact: two PEFT files as blobs, and one JSON blob that names them. The key of the JSON blob is
 * the checkpoint's `storage_key`; since blobs are named by their content, it pins every byte.
 */
const FILES = [PEFT_CONFIG_FILE, PEFT_WEIGHTS_FILE] as const;
const MAX_MANIFEST_BYTES = 256 * 1024;
/** What is verified in memory, for artefacts that were posted. */
const MAX_VERIFIED_BYTES = 256 * 1024 * 1024;

/** Stores an adapter that a worker has written. The same files give the same key. */
export async function putAdapter(
  blobs: BlobStore,
  projectId: string,
  baseModel: string,
  files: { readonly configFile: string; readonly weightsFile: string },
): Promise<BlobRef> {
  const config = await blobs.put(projectId, createReadStream(files.configFile), { contentType: 'application/json' });
  const weights = await blobs.put(projectId, createReadStream(files.weightsFile));
  const manifest: AdapterManifest = {
    format: 'peft',
    base_model: baseModel,
    files: { [PEFT_CONFIG_FILE]: config, [PEFT_WEIGHTS_FILE]: weights },
  };
  return blobs.put(projectId, Buffer.from(JSON.stringify(manifest)), { contentType: 'application/json' });
}

/** @throws AppError 422 `trainer.artefact.invalid`, 404 when it is not in the store */
export async function readManifest(blobs: BlobStore, projectId: string, storageKey: string): Promise<AdapterManifest> {
  if (!isKeyOfProject(storageKey, projectId)) throw invalid('the storage key is not one of this project.');
  let json: unknown;
  try {
    json = JSON.parse((await blobs.bytes(storageKey, MAX_MANIFEST_BYTES)).toString('utf8'));
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw invalid('its manifest is not JSON.', error);
  }
  const manifest = adapterManifest.safeParse(json);
  if (!manifest.success) {
    const [first] = fieldErrors(manifest.error, json, 'manifest');
    throw invalid(`${first?.field} ${first?.message}.`);
  }
  for (const name of FILES) {
    const file = manifest.data.files[name];
    if (!file) throw invalid(`its manifest names no ${name}.`);
    if (!isKeyOfProject(file.key, projectId)) throw invalid(`${name} is not a blob of this project.`);
    if (!file.key.endsWith(file.sha256)) throw invalid(`the hash of ${name} is not the one that its key names.`);
  }
  return manifest.data;
}

/** Copies a stored adapter into a folder as PEFT lays it out. Returns the folder. */
export async function downloadAdapter(
  blobs: BlobStore,
  projectId: string,
  storageKey: string,
  folder: string,
): Promise<string> {
  const manifest = await readManifest(blobs, projectId, storageKey);
  await mkdir(folder, { recursive: true });
  for (const name of FILES) {
    await pipeline(await blobs.get(manifest.files[name]!.key), createWriteStream(join(folder, name)));
  }
  return folder;
}

/**
 * Whether an artefact that came from outside may be served: there, whole, of a format we know, in the shapes of a base
 * that we have.
 * @throws AppError 404, 413, 422
 */
export async function verifyArtefact(
  blobs: BlobStore,
  bases: ReadonlyMap<string, string>,
  projectId: string,
  storageKey: string,
): Promise<{ readonly baseModel: string; readonly sha256: string }> {
  const manifest = await readManifest(blobs, projectId, storageKey);
  const folder = bases.get(manifest.base_model);
  if (folder === undefined) throw invalid(`there is no base model ${manifest.base_model} here.`);
  const config = await blobs.bytes(manifest.files[PEFT_CONFIG_FILE]!.key, MAX_MANIFEST_BYTES);
  const weights = await blobs.bytes(manifest.files[PEFT_WEIGHTS_FILE]!.key, MAX_VERIFIED_BYTES);
  try {
    checkLora(await readBaseConfig(folder), await decodePeftAdapter({ config, weights }));
  } catch (error) {
    if (error instanceof EngineError) throw invalid(error.message, error);
    throw error;
  }
  return { baseModel: manifest.base_model, sha256: storageKey.slice(-64) };
}

function invalid(message: string, cause?: unknown): AppError {
  return new AppError({
    code: 'trainer.artefact.invalid',
    status: 422,
    message: `The artefact cannot be used: ${message}`,
    retry: false,
    field: 'storage_key',
    ...(cause === undefined ? {} : { cause }),
  });
}
