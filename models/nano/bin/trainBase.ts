/**
 * Trains the nano base from nothing with the engine and writes models/nano/base. Rerunning with the same
 * thread count on the same kind of CPU writes the same bytes.
 *
 *   node models/nano/bin/trainBase.ts [--out DIR] [--threads N] [--examples N]
 *
 * An interrupted run continues from OUT/training-state.bin when it is started again.
 */
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { initWeights } from '@tuneloop/engine/models/initWeights';
import { createTrainer } from '@tuneloop/engine/train/trainer';
import type { SftExample, WeightMap } from '@tuneloop/engine/types';
import { writeModelFolder } from '@tuneloop/engine/weights/loadModel';
import { createBpeCodec, fromTokenizerJson } from '../src/bpe.ts';
import { formatAnswer, formatPrompt } from '../src/chatFormat.ts';
import { corpus } from '../src/corpus.ts';
import { BASE_CONFIG, BASE_TRAINING, SAMPLING } from '../src/recipe.ts';

const END_ID = 0;
const REPORT_EVERY = 50;
const SAVE_EVERY = 200;

const base = fileURLToPath(new URL('../base/', import.meta.url));
const { values: flags } = parseArgs({
  options: { out: { type: 'string' }, threads: { type: 'string' }, examples: { type: 'string' } },
});
const out = flags.out ?? base;
const recipe = BASE_TRAINING;
const count = flags.examples === undefined ? recipe.examples : Number(flags.examples);
const threads = Number(flags.threads ?? 1);

const codec = createBpeCodec(fromTokenizerJson(JSON.parse(await readFile(join(base, 'tokenizer.json'), 'utf8'))));

/** The loss falls on the answer only: a prompt's facts are drawn at random and cannot be learnt. */
function toExample(prompt: string, answer: string): SftExample {
  const head = codec.encode(prompt);
  const tail = codec.encode(answer);
  const lossWeights = new Float32Array(head.length + tail.length);
  lossWeights.fill(1, head.length);
  return { ids: Int32Array.from([...head, ...tail]), lossWeights };
}

const data: SftExample[] = [];
for (const { system, user, answer } of corpus(recipe.corpusSeed, count)) {
  data.push(toExample(formatPrompt(user, system), formatAnswer(answer)));
}
console.log(`${data.length} texts, ${data.reduce((sum, { ids }) => sum + ids.length, 0)} tokens`);

await mkdir(out, { recursive: true });
const statePath = join(out, 'training-state.bin');
const saved = await readFile(statePath).catch(() => undefined);

const trainer = await createTrainer({
  task: 'sft',
  model: { config: BASE_CONFIG, weights: initWeights(BASE_CONFIG, recipe.seed, recipe.initRange) },
  data,
  threads,
  ...(saved === undefined ? {} : { resumeFrom: saved }),
  hyper: {
    epochs: 1,
    batchSize: recipe.rows,
    packing: true,
    maxLength: recipe.rowTokens,
    learningRate: recipe.learningRate,
    schedule: 'cosine',
    finalRatio: recipe.finalRatio,
    warmupRatio: recipe.warmupRatio,
    weightDecay: recipe.weightDecay,
    betas: recipe.betas,
    seed: recipe.seed,
  },
  checkpoint: {
    everySteps: SAVE_EVERY,
    save: async (state) => {
      await writeFile(`${statePath}.new`, state);
      await rename(`${statePath}.new`, statePath);
    },
  },
  onProgress: ({ step, totalSteps, loss, tokensPerSecond }) => {
    if (step % REPORT_EVERY !== 0 && step !== totalSteps) return;
    console.log(`step ${step}/${totalSteps}  loss ${loss.toFixed(4)}  ${Math.round(tokensPerSecond)} tokens/s`);
  },
});
const result = await trainer.run();
const weights = result.weights as WeightMap;
await writeModelFolder(out, { config: BASE_CONFIG, weights }, { eos: END_ID });
await writeFile(
  join(out, 'generation_config.json'),
  `${JSON.stringify({ eos_token_id: END_ID, pad_token_id: END_ID, do_sample: true, temperature: SAMPLING.temperature, top_p: SAMPLING.topP }, null, 2)}\n`,
);
await rm(statePath, { force: true });
const { steps, tokens, seconds, lastLoss } = result;
console.log(
  `${steps} steps, ${tokens} tokens in ${seconds.toFixed(0)} s, last loss ${lastLoss.toFixed(4)}; wrote ${out}`,
);
