import { initLora } from '@tuneloop/engine/adapters/lora';
import { createSampler, type Sampler } from '@tuneloop/engine/sample/sampler';
import type { Tokenizer } from '@tuneloop/engine/tokenizer/tokenizer';
import { createScorer } from '@tuneloop/engine/train/scorer';
import { createTrainer } from '@tuneloop/engine/train/trainer';
import type { BaseModel, DpoExample, LoraConfig, LoraWeights, TrainingHyper } from '@tuneloop/engine/types';
import { type BootstrapInterval, bootstrapPairedDifference } from '@tuneloop/metrics/bootstrap';
import { lengthControlledWinRateInterval, winRateInterval } from '@tuneloop/metrics/winRate';
import { formatAnswer, formatPrompt } from './chatFormat.ts';
import { describeAttributes } from './facts.ts';
import { parseCaption, writeCaption } from './grammar.ts';
import { choosePairs } from './pairs.ts';
import { samplePictures } from './pictures.ts';
import { createRandom } from './random.ts';
import { rateStars, type Taste, tasteNamed, wordCount, wrongAttributes } from './taste.ts';
import type { Attributes } from './world.ts';

/**
 * One turn of the loop without services: candidates from the base, stars by a scripted reviewer, pairs,
 * preference training, fresh samples on held-out prompts. The recipe was chosen with it (docs/lab.md).
 */
export interface LabTurn {
  taste: Taste;
  seed: number;
  /** The null control: stars dealt out at random among all candidates. */
  shuffled: boolean;
  trainPrompts: number;
  testPrompts: number;
  candidates: number;
  /** Samples of each test prompt, before and after. */
  fresh: number;
  pairsPerPrompt: number;
  sampling: { temperature: number; topP: number; maxTokens: number };
  lora: LoraConfig;
  hyper: Omit<TrainingHyper, 'seed'>;
}

export interface LabModel {
  base: BaseModel;
  tokenizer: Tokenizer;
  threads: number;
}

/** What the samples of one side are like, on average. */
export interface SampleFigures {
  reward: number;
  wrongAttributes: number;
  words: number;
  /** Share that no template of the grammar could have written. */
  broken: number;
}

export interface LabFigures {
  pairs: number;
  steps: number;
  seconds: number;
  before: SampleFigures;
  after: SampleFigures;
  /** Rise of the stated taste's reward; for a reviewer of the opposite taste still the stated taste's. */
  rewardRise: BootstrapInterval;
  winRate: BootstrapInterval;
  winRateAtEqualLength: BootstrapInterval;
  /** Perplexity of clean captions, tuned over base. */
  perplexityRatio: number;
  examples: { before: string[]; after: string[] }[];
}

interface Prompt {
  facts: Attributes;
  ids: number[];
  /** Clean captions in the grammar: what the model should not forget. */
  clean: string[];
}

const SAMPLER_BATCH = 128;
/** Prompts are a thousand seeds apart, the three draws of a turn a quarter of a million. */
const PROMPT_SEEDS = 1000;
const DRAW_SEEDS = 250_000;

export async function runLabTurn(model: LabModel, turn: LabTurn): Promise<LabFigures> {
  const { base, tokenizer, threads } = model;
  const prompts = drawPrompts(tokenizer, 1000 + turn.seed, turn.trainPrompts + turn.testPrompts);
  const train = prompts.slice(0, turn.trainPrompts);
  const test = prompts.slice(turn.trainPrompts);
  const sampler = createSampler({ model: base, tokenizer, threads, maxBatch: SAMPLER_BATCH });
  try {
    const candidates = await sample(sampler, turn, 0, train, turn.candidates);
    const before = await sample(sampler, turn, 1, test, turn.fresh);
    const data = pairsOf(tokenizer, turn, train, candidates);
    const trainer = await createTrainer({
      task: 'dpo',
      model: base,
      lora: initLora(base.config, turn.lora, turn.seed),
      reference: 'base',
      data,
      threads,
      hyper: { ...turn.hyper, seed: turn.seed },
    });
    const { lora, steps, seconds } = await trainer.run();
    if (lora === undefined) throw new Error('adapter training gave no adapter');
    sampler.addAdapter('tuned', lora);
    const after = await sample(sampler, turn, 2, test, turn.fresh, 'tuned');
    return {
      pairs: data.length,
      steps,
      seconds,
      ...compare(turn, test, before, after),
      perplexityRatio: (await perplexity(model, test, lora)) / (await perplexity(model, test)),
      examples: before.map((answers, i) => ({ before: answers, after: after[i]! })),
    };
  } finally {
    await sampler.close();
  }
}

function drawPrompts(tokenizer: Tokenizer, seed: number, count: number): Prompt[] {
  const random = createRandom(`clean/${seed}`);
  return samplePictures(count, seed).map(({ attributes }) => {
    // With the quality line that the default prompt templates add.
    const quality = (0.3 + 0.7 * random.next()).toFixed(2);
    return {
      facts: attributes,
      ids: tokenizer.encode(formatPrompt(`${describeAttributes(attributes)}\nQuality: ${quality}`)),
      clean: [writeCaption(random, attributes).text, writeCaption(random, attributes).text],
    };
  });
}

async function sample(
  sampler: Sampler,
  turn: LabTurn,
  draw: number,
  prompts: readonly Prompt[],
  count: number,
  adapter?: string,
): Promise<string[][]> {
  return await Promise.all(
    prompts.map(async ({ ids }, i) => {
      const seed = turn.seed * 1_000_000 + draw * DRAW_SEEDS + i * PROMPT_SEEDS;
      const request = { prompt: ids, ...turn.sampling, seed, ...(adapter === undefined ? {} : { adapter }) };
      const generations = await sampler.generateMany(request, count);
      return generations.map(({ text = '' }) => text);
    }),
  );
}

function pairsOf(
  tokenizer: Tokenizer,
  turn: LabTurn,
  prompts: readonly Prompt[],
  candidates: string[][],
): DpoExample[] {
  const random = createRandom(`ratings/${turn.seed}`);
  const stars = prompts.map(({ facts }, i) => candidates[i]!.map((text) => rateStars(random, turn.taste, facts, text)));
  if (turn.shuffled) {
    const mixed = random.shuffled(stars.flat());
    for (const row of stars) for (let j = 0; j < row.length; j++) row[j] = mixed.pop()!;
  }
  return prompts.flatMap(({ ids }, i) => {
    const rated = candidates[i]!.map((answer, j) => ({ answer, stars: stars[i]![j]! }));
    return choosePairs(random, rated, turn.pairsPerPrompt).map(({ chosen, rejected }) => ({
      prompt: ids,
      chosen: tokenizer.encode(formatAnswer(chosen)),
      rejected: tokenizer.encode(formatAnswer(rejected)),
    }));
  });
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

function compare(turn: LabTurn, test: readonly Prompt[], before: string[][], after: string[][]) {
  const { taste } = turn;
  const stated = taste.name.startsWith('not-') ? tasteNamed(taste.name.slice('not-'.length)) : taste;
  const measure = (answers: string[][]) =>
    answers.map((texts, i) =>
      texts.map((text) => ({
        reward: stated.score(test[i]!.facts, text),
        words: wordCount(text),
        wrong: wrongAttributes(test[i]!.facts, text).length,
        broken: parseCaption(text).style === undefined ? 1 : 0,
      })),
    );
  const [measuredBefore, measuredAfter] = [measure(before), measure(after)];
  const figures = (measured: typeof measuredBefore): SampleFigures => ({
    reward: mean(measured.flat().map(({ reward }) => reward)),
    wrongAttributes: mean(measured.flat().map(({ wrong }) => wrong)),
    words: mean(measured.flat().map(({ words }) => words)),
    broken: mean(measured.flat().map(({ broken }) => broken)),
  });
  const groups = test.map((_, i) => ({
    groupId: String(i),
    comparisons: measuredAfter[i]!.flatMap((candidate) =>
      measuredBefore[i]!.map((baseline) => ({
        outcome: (Math.sign(candidate.reward - baseline.reward) + 1) / 2,
        candidateLength: candidate.words,
        baselineLength: baseline.words,
      })),
    ),
  }));
  return {
    before: figures(measuredBefore),
    after: figures(measuredAfter),
    rewardRise: bootstrapPairedDifference(
      test.map((_, i) => ({
        groupId: String(i),
        candidate: measuredAfter[i]!.map(({ reward }) => reward),
        baseline: measuredBefore[i]!.map(({ reward }) => reward),
      })),
    ),
    winRate: winRateInterval(groups),
    winRateAtEqualLength: lengthControlledWinRateInterval(groups),
  };
}

async function perplexity({ base, tokenizer, threads }: LabModel, prompts: readonly Prompt[], lora?: LoraWeights) {
  const scorer = await createScorer({ model: base, threads });
  try {
    const requests = prompts.flatMap(({ ids, clean }) =>
      clean.map((text) => ({ ids: [...ids, ...tokenizer.encode(formatAnswer(text))], from: ids.length })),
    );
    const logProbs = (await scorer.logProbs(requests, lora)).flatMap((values) => [...values]);
    return Math.exp(-mean(logProbs));
  } finally {
    await scorer.close();
  }
}
