import { copyFile, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { initLora } from '@tuneloop/engine/adapters/lora';
import { encodePeftAdapter } from '@tuneloop/engine/adapters/peft';
import { initWeights } from '@tuneloop/engine/models/initWeights';
import { createRandom } from '@tuneloop/engine/random';
import { loadTokenizerFolder } from '@tuneloop/engine/tokenizer/tokenizer';
import type { LoraWeights, ModelConfig } from '@tuneloop/engine/types';
import { writeModelFolder } from '@tuneloop/engine/weights/loadModel';
import type { BlobStore } from '@tuneloop/runtime/blobs/blobStore';

const TOKENIZER = fileURLToPath(new URL('../../../models/nano/base/', import.meta.url));

/** Speaks the sample model's tokens with random weights: quick to make, and its answers are text like any other. */
export async function makeTinyModel(): Promise<{ folder: string; config: ModelConfig }> {
  const tokenizer = await loadTokenizerFolder(TOKENIZER);
  const config: ModelConfig = {
    hiddenSize: 32,
    intermediateSize: 64,
    numLayers: 2,
    numHeads: 4,
    numKvHeads: 2,
    headDim: 8,
    vocabSize: tokenizer.vocabSize,
    maxPositions: 256,
    rmsNormEps: 1e-5,
    ropeTheta: 10_000,
    tieWordEmbeddings: true,
  };
  const folder = await mkdtemp(join(tmpdir(), 'tuneloop-tiny-'));
  await writeModelFolder(folder, { config, weights: initWeights(config, 7) });
  for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
    await copyFile(join(TOKENIZER, file), join(folder, file));
  }
  return { folder, config };
}

/** An adapter that changes what the model says: both halves non-zero. */
export function makeLora(config: ModelConfig, seed: number): LoraWeights {
  const lora = initLora(config, { r: 4, alpha: 64, targets: ['q_proj', 'v_proj', 'down_proj'], dropout: 0 }, seed);
  const random = createRandom(seed + 1);
  for (const { b } of lora.tensors.values()) {
    for (let i = 0; i < b.data.length; i++) b.data[i] = random() - 0.5;
  }
  return lora;
}

/** Stores an adapter as the trainer does: two files and their manifest. Returns the manifest's key. */
export async function storeAdapter(
  blobs: BlobStore,
  projectId: string,
  lora: LoraWeights,
  change: (manifest: Record<string, unknown>) => unknown = (manifest) => manifest,
): Promise<string> {
  const peft = encodePeftAdapter(lora, 'nano');
  const config = await blobs.put(projectId, peft.config);
  const weights = await blobs.put(projectId, peft.weights);
  const manifest = {
    format: 'peft',
    base_model: 'nano',
    files: { 'adapter_config.json': config, 'adapter_model.safetensors': weights },
  };
  const stored = await blobs.put(projectId, Buffer.from(JSON.stringify(change(manifest))));
  return stored.key;
}
