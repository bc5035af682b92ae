/**
 * Runs turns of the loop without the services and prints one line per taste and seed; this is how
 * src/recipe.ts was chosen (docs/lab.md).
 *
 *   node models/nano/bin/tryRecipe.ts [--tastes accurate,not-plain] [--seeds 1,2] [--shuffled] [--base DIR]
 *     [--beta 1] [--nll 3] [--smoothing 0.03] [--lr 2e-3] [--epochs 8] [--r 8] [--temperature 1] [--examples]
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { loadTokenizerFolder } from '@tuneloop/engine/tokenizer/tokenizer';
import { LORA_TARGETS } from '@tuneloop/engine/types';
import { loadModelFolder } from '@tuneloop/engine/weights/loadModel';
import { type LabFigures, type LabTurn, runLabTurn } from '../src/labTurn.ts';
import { ADAPTER, SAMPLING, TRAINING } from '../src/recipe.ts';
import { tasteNamed } from '../src/taste.ts';

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
    cap: { type: 'string', default: '4' },
    temperature: { type: 'string', default: String(SAMPLING.temperature) },
    'top-p': { type: 'string', default: String(SAMPLING.topP) },
    beta: { type: 'string', default: String(TRAINING.dpo.beta) },
    nll: { type: 'string', default: String(TRAINING.dpo.nllWeight) },
    smoothing: { type: 'string', default: String(TRAINING.dpo.labelSmoothing) },
    lr: { type: 'string', default: String(TRAINING.learningRate) },
    epochs: { type: 'string', default: String(TRAINING.epochs) },
    batch: { type: 'string', default: String(TRAINING.batchSize) },
    r: { type: 'string', default: String(ADAPTER.r) },
    alpha: { type: 'string', default: String(ADAPTER.alpha) },
    targets: { type: 'string', default: ADAPTER.targets.join(',') },
    examples: { type: 'boolean', default: false },
  },
});
const number = (name: keyof typeof flags): number => Number(flags[name]);

const settings: Omit<LabTurn, 'taste' | 'seed'> = {
  shuffled: flags.shuffled,
  trainPrompts: number('train'),
  testPrompts: number('test'),
  candidates: number('candidates'),
  fresh: number('fresh'),
  pairsPerPrompt: number('cap'),
  sampling: { ...SAMPLING, temperature: number('temperature'), topP: number('top-p') },
  lora: {
    r: number('r'),
    alpha: number('alpha'),
    targets: LORA_TARGETS.filter((target) => flags.targets.split(',').includes(target)),
    dropout: 0,
  },
  hyper: {
    ...TRAINING,
    epochs: number('epochs'),
    batchSize: number('batch'),
    learningRate: number('lr'),
    dpo: { beta: number('beta'), nllWeight: number('nll'), labelSmoothing: number('smoothing') },
  },
};

type Interval = LabFigures['winRate'];
const interval = ({ value, low, high }: Interval): string =>
  `${value.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`;

function line(name: string, seed: number, { before, after, ...figures }: LabFigures): string {
  const fromTo = (key: keyof typeof before, digits: number): string =>
    `${before[key].toFixed(digits)} to ${after[key].toFixed(digits)}`;
  return [
    `${name} seed ${seed}: ${figures.pairs} pairs, ${figures.steps} steps in ${figures.seconds.toFixed(0)} s`,
    `reward ${fromTo('reward', 2)}, by ${interval(figures.rewardRise)}`,
    `win ${interval(figures.winRate)}`,
    `at equal length ${interval(figures.winRateAtEqualLength)}`,
    `wrong ${fromTo('wrongAttributes', 2)}`,
    `words ${fromTo('words', 1)}`,
    `perplexity x${figures.perplexityRatio.toFixed(3)}`,
    `broken ${fromTo('broken', 3)}`,
  ].join('; ');
}

const EXAMPLES = 4;
const model = {
  base: await loadModelFolder(flags.base),
  tokenizer: await loadTokenizerFolder(flags.base),
  threads: number('threads'),
};
for (const seed of flags.seeds.split(',').map(Number)) {
  for (const name of flags.tastes.split(',')) {
    const figures = await runLabTurn(model, { ...settings, taste: tasteNamed(name), seed });
    console.log(line(name, seed, figures));
    if (flags.examples) for (const example of figures.examples.slice(0, EXAMPLES)) console.log(example);
  }
}
