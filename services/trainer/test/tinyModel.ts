import { copyFile, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { initWeights } from '@tuneloop/engine/models/initWeights';
import { loadTokenizerFolder } from '@tuneloop/engine/tokenizer/tokenizer';
import { writeModelFolder } from '@tuneloop/engine/weights/loadModel';

const TOKENIZER = fileURLToPath(new URL('../../../models/nano/base/', import.meta.url));
const GUARD_TEXTS = 12;

/** The sample model's tokenizer with random weights: quick to make, and everything about it is as with a real base. */
export async function makeTinyModel(): Promise<string> {
  const tokenizer = await loadTokenizerFolder(TOKENIZER);
  const config = {
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
  const guard = Array.from({ length: GUARD_TEXTS }, (_, i) =>
    JSON.stringify({ messages: [{ role: 'user', content: `Item: cup ${i}` }], answer: `A plain cup, number ${i}.` }),
  );
  await writeFile(join(folder, 'guard.jsonl'), `${guard.join('\n')}\n`);
  return folder;
}
