/**
 * One turn of the loop without the services: candidates from the base, a scripted reviewer's stars, pairs,
 * DPO, fresh samples on held-out prompts. Prints one line per taste and seed; this is how src/recipe.ts was
 * chosen (docs/lab.md).
 *
 *   node models/nano/bin/tryRecipe.ts [--tastes accurate,not-plain] [--seeds 1,2] [--shuffled] [--base DIR]
 *     [--beta 0.3] [--nll 0.2] [--lr 1e-3] [--epochs 4] [--batch 16] [--r 8] [--alpha 16] [--temperature 0.9] ...
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { initLora } from '@tuneloop/engine/adapters/lora';
import { createSampler, type Sampler } from '@tuneloop/engine/sample/sampler';
import { loadTokenizerFolder } from '@tuneloop/engine/tokenizer/tokenizer';
import { createScorer } from '@tuneloop/engine/train/scorer';
import { createTrainer } from '@tuneloop/engine/train/trainer';
import { type DpoExample, LORA_TARGETS, type LoraWeights } from '@tuneloop/engine/types';
import { loadModelFolder } from '@tuneloop/engine/weights/loadModel';
import { bootstrapPairedDifference } from '@tuneloop/metrics/bootstrap';
import { lengthControlledWinRateInterval, lengthMatchedWinRate, winRateInterval } from '@tuneloop/metrics/winRate';
import { formatAnswer, formatPrompt } from '../src/chatFormat.ts';
import { describeAttributes } from '../src/facts.ts';
import { parseCaption, writeCaption } from '../src/grammar.ts';
import { choosePairs } from '../src/pairs.ts';
import { samplePictures } from '../src/pictures.ts';
import { createRandom } from '../src/random.ts';
import { ADAPTER, SAMPLING, TRAINING } from '../src/recipe.ts';
import { rateStars, type Taste, tasteNamed, wordCount, wrongAttributes } from '../src/taste.ts';
import type { Attributes } from '../src/world.ts';

const { values: flags } = parseArgs({
  options: {
    base: { type: 'string', default: fileURLToPath(new URL('../base/', import.meta.url)) },
    tastes: { type: 'string', default: 'accurate,vivid,plain' },
    seeds: { type: 'string', default: '1' },
    shuffled: { type: 'boolean', default: false },
    threads: { type: 'string', default: '1' },
    train: { type: 'string', default: '120' },
    test: { type: 'string', default: '120' },
    candidates: { type: 'string', default: '8' },
    fresh: { type: 'string', default: '4' },
    temperature: { type: 'string', default: String(SAMPLING.temperature) },
    'top-p': { type: 'string', default: String(SAMPLING.topP) },
    beta: { type: 'string', default: String(TRAINING.dpo.beta) },
    nll: { type: 'string', default: String(TRAINING.dpo.nllWeight) },
    smoothing: { type: 'string', default: String(TRAINING.dpo.labelSmoothing) },
    lr: { type: 'string', default: String(TRAINING.learningRate) },
    epochs: { type: 'string', default: String(TRAINING.epochs) },
    batch: { type: 'string', default: String(TRAINING.batchSize) },
    cap: { type: 'string', default: '4' },
    r: { type: 'string', default: String(ADAPTER.r) },
    alpha: { type: 'string', default: String(ADAPTER.alpha) },
    targets: { type: 'string', default: ADAPTER.targets.join(',') },
    examples: { type: 'boolean', default: false },
  },
});
const number = (name: keyof typeof flags): number => Number(flags[name]);
const threads = number('threads');

const model = await loadModelFolder(flags.base);
const tokenizer = await loadTokenizerFolder(flags.base);
const encode = (text: string): number[] => tokenizer.encode(text);

interface Prompt {
  facts: Attributes;
  ids: number[];
  /** Clean captions in the grammar: what the model should not forget. */
  clean: string[];
}

function promptsOf(seed: number, count: number): Prompt[] {
  const random = createRandom(`clean/${seed}`);
  return samplePictures(count, seed).map(({ attributes }) => ({
    facts: attributes,
    // The quality line that the default templates add.
    ids: encode(formatPrompt(`${describeAttributes(attributes)}\nQuality: ${(0.3 + 0.7 * random.next()).toFixed(2)}`)),
    clean: [writeCaption(random, attributes).text, writeCaption(random, attributes).text],
  }));
}

async function answers(sampler: Sampler, prompts: Prompt[], count: number, seed: number, adapter?: string) {
  const drawn = await Promise.all(
    prompts.map(({ ids }, i) =>
      sampler.generateMany(
        {
          prompt: ids,
          maxTokens: SAMPLING.maxTokens,
          temperature: number('temperature'),
          topP: number('top-p'),
          seed: seed + i * 1000,
          ...(adapter === undefined ? {} : { adapter }),
        },
        count,
      ),
    ),
  );
  return drawn.map((list) =>
    list.map(({ text, finishReason }) => ({ text: text ?? '', whole: finishReason === 'stop' })),
  );
}

type Answers = Awaited<ReturnType<typeof answers>>;

async function perplexity(prompts: Prompt[], lora?: LoraWeights): Promise<number> {
  const scorer = await createScorer({ model, threads });
  const requests = prompts.flatMap(({ ids, clean }) =>
    clean.map((text) => ({ ids: [...ids, ...encode(formatAnswer(text))], from: ids.length })),
  );
  const logProbs = (await scorer.logProbs(requests, lora)).flatMap((values) => [...values]);
  await scorer.close();
  return Math.exp(-logProbs.reduce((sum, value) => sum + value, 0) / logProbs.length);
}

function pairsOf(taste: Taste, prompts: Prompt[], candidates: Answers, seed: number): DpoExample[] {
  const random = createRandom(`ratings/${seed}`);
  const stars = prompts.map(({ facts }, i) => candidates[i]!.map(({ text }) => rateStars(random, taste, facts, text)));
  if (flags.shuffled) {
    const mixed = random.shuffled(stars.flat());
    for (const row of stars) for (let j = 0; j < row.length; j++) row[j] = mixed.pop()!;
  }
  return prompts.flatMap(({ ids }, i) => {
    const rated = candidates[i]!.map((answer, j) => ({ answer, stars: stars[i]![j]! }));
    return choosePairs(random, rated, number('cap')).map(({ chosen, rejected }) => ({
      prompt: ids,
      chosen: encode(formatAnswer(chosen.text)),
      rejected: encode(formatAnswer(rejected.text)),
    }));
  });
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const show = ({ value, low, high }: { value: number; low: number; high: number }): string =>
  `${value.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`;

async function turn(taste: Taste, seed: number): Promise<void> {
  const prompts = promptsOf(1000 + seed, number('train') + number('test'));
  const train = prompts.slice(0, number('train'));
  const test = prompts.slice(number('train'));
  const sampler = createSampler({ model, tokenizer, eosTokenIds: model.eosTokenIds, threads, maxBatch: 128 });
  const candidates = await answers(sampler, train, number('candidates'), seed * 1e6);
  const before = await answers(sampler, test, number('fresh'), seed * 1e6 + 5e5);
  const data = pairsOf(taste, train, candidates, seed);
  const targets = LORA_TARGETS.filter((target) => flags.targets.split(',').includes(target));
  const lora = initLora(model.config, { r: number('r'), alpha: number('alpha'), targets, dropout: 0 }, seed);
  const trainer = await createTrainer({
    task: 'dpo',
    model,
    lora,
    reference: 'base',
    data,
    threads,
    hyper: {
      ...TRAINING,
      epochs: number('epochs'),
      batchSize: number('batch'),
      learningRate: number('lr'),
      seed,
      dpo: { beta: number('beta'), nllWeight: number('nll'), labelSmoothing: number('smoothing') },
    },
  });
  const result = await trainer.run();
  sampler.addAdapter('tuned', result.lora!);
  const after = await answers(sampler, test, number('fresh'), seed * 1e6 + 7e5, 'tuned');
  await sampler.close();

  // The reward is always the stated taste's, even for a reviewer of the opposite taste.
  const stated = taste.name.startsWith('not-') ? tasteNamed(taste.name.slice(4)) : taste;
  const scores = (set: Answers) => set.map((list, i) => list.map(({ text }) => stated.score(test[i]!.facts, text)));
  const words = (set: Answers) => set.map((list) => list.map(({ text }) => wordCount(text)));
  const [scoreBefore, scoreAfter] = [scores(before), scores(after)];
  const [wordsBefore, wordsAfter] = [words(before), words(after)];
  const difference = bootstrapPairedDifference(
    test.map((_, i) => ({ groupId: String(i), candidate: scoreAfter[i]!, baseline: scoreBefore[i]! })),
  );
  const groups = test.map((_, i) => ({
    groupId: String(i),
    comparisons: scoreAfter[i]!.flatMap((candidate, a) =>
      scoreBefore[i]!.map((baseline, b) => ({
        outcome: candidate > baseline ? 1 : candidate < baseline ? 0 : 0.5,
        candidateLength: wordsAfter[i]![a]!,
        baselineLength: wordsBefore[i]![b]!,
      })),
    ),
  }));
  const wrong = (set: Answers) =>
    mean(set.flatMap((list, i) => list.map(({ text }) => wrongAttributes(test[i]!.facts, text).length)));
  const broken = (set: Answers) => mean(set.flat().map(({ text }) => (parseCaption(text).style === undefined ? 1 : 0)));
  const ratio = (await perplexity(test, result.lora)) / (await perplexity(test));
  console.log(
    [
      `${taste.name} seed ${seed}: ${data.length} pairs, ${result.steps} steps in ${result.seconds.toFixed(0)} s`,
      `reward ${mean(scoreBefore.flat()).toFixed(2)} to ${mean(scoreAfter.flat()).toFixed(2)}, +${show(difference)}`,
      `win ${show(winRateInterval(groups))}`,
      `at equal length ${show(lengthControlledWinRateInterval(groups))}, matched ${lengthMatchedWinRate(groups).value?.toFixed(2)}`,
      `wrong ${wrong(before).toFixed(2)} to ${wrong(after).toFixed(2)}`,
      `words ${mean(wordsBefore.flat()).toFixed(1)} to ${mean(wordsAfter.flat()).toFixed(1)}`,
      `perplexity x${ratio.toFixed(3)}`,
      `broken ${broken(before).toFixed(3)} to ${broken(after).toFixed(3)}`,
    ].join('; '),
  );
  if (flags.examples)
    for (const i of [0, 1, 2, 3])
      console.log(
        before[i]!.map((a) => a.text),
        after[i]!.map((a) => a.text),
      );
}

for (const seed of flags.seeds.split(',').map(Number)) {
  for (const name of flags.tastes.split(',')) await turn(tasteNamed(name), seed);
}
