import { PEFT_CONFIG_FILE, PEFT_WEIGHTS_FILE, decodePeftAdapter } from '@tuneloop/engine/adapters/peft';
import { EngineError } from '@tuneloop/engine/errors';
import type { LoraWeights } from '@tuneloop/engine/types';
import { adapterManifest, type AdapterManifest } from '@tuneloop/contracts/responses/serve';
import { type BlobStore, isKeyOfProject } from '@tuneloop/runtime/blobs/blobStore';
import { AppError } from '@tuneloop/runtime/errors';
import { fieldErrors } from '@tuneloop/runtime/zodIssues';

const MAX_MANIFEST_BYTES = 256 * 1024;
const MAX_ADAPTER_BYTES = 1024 * 1024 * 1024;

/** What is wrong with an artefact; nobody can be answered from it, however often they ask. */
export function artefactRefused(message: string, cause?: unknown): AppError {
  return new AppError({
    code: 'serve.adapter.invalid',
    status: 422,
    message: `The adapter cannot be served: ${message}`,
    retry: false,
    field: 'storage_key',
    ...(cause === undefined ? {} : { cause }),
  });
}

/**
 * Reads a checkpoint's adapter: its manifest, then the two PEFT files, each verified against the hash and size that the
 * manifest states. Every key must belong to the project.
 * @throws AppError 404 when a blob is missing, 422 `serve.adapter.invalid`, 503 when the store does not answer
 */
export async function readAdapter(
  blobs: BlobStore,
  projectId: string,
  baseModel: string,
  storageKey: string,
): Promise<LoraWeights> {
  const manifest = await readManifest(blobs, projectId, storageKey);
  if (manifest.base_model !== baseModel) {
    throw artefactRefused(`it was made for ${manifest.base_model}, not for ${baseModel}.`);
  }
  const config = await readFile(blobs, projectId, manifest, PEFT_CONFIG_FILE);
  const weights = await readFile(blobs, projectId, manifest, PEFT_WEIGHTS_FILE);
  try {
    return await decodePeftAdapter({ config, weights });
  } catch (error) {
    if (error instanceof EngineError) throw artefactRefused(error.message, error);
    throw error;
  }
}

async function readManifest(blobs: BlobStore, projectId: string, storageKey: string): Promise<AdapterManifest> {
  if (!isKeyOfProject(storageKey, projectId)) throw artefactRefused('the storage key is not one of this project.');
  const bytes = await blobs.bytes(storageKey, MAX_MANIFEST_BYTES);
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    throw artefactRefused('its manifest is not JSON.', error);
  }
  const manifest = adapterManifest.safeParse(json);
  if (manifest.success) return manifest.data;
  const [first] = fieldErrors(manifest.error, json, 'manifest');
  throw artefactRefused(`${first?.field} ${first?.message}.`);
}

async function readFile(
  blobs: BlobStore,
  projectId: string,
  manifest: AdapterManifest,
  name: string,
): Promise<Uint8Array> {
  const file = manifest.files[name];
  if (!file) throw artefactRefused(`its manifest names no ${name}.`);
  if (!isKeyOfProject(file.key, projectId)) throw artefactRefused(`${name} is not a blob of this project.`);
  if (file.size > MAX_ADAPTER_BYTES) throw artefactRefused(`${name} is larger than ${MAX_ADAPTER_BYTES} bytes.`);
  // The store verifies the content against the hash in the key.
  if (!file.key.endsWith(file.sha256)) throw artefactRefused(`the hash of ${name} is not the one that its key names.`);
  const bytes = await blobs.bytes(file.key, MAX_ADAPTER_BYTES);
  if (bytes.byteLength !== file.size) throw artefactRefused(`${name} has ${bytes.byteLength} bytes, not ${file.size}.`);
  return bytes;
}
