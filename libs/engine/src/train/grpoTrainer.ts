/** Entry point of GRPO: what a run needs is checked, copied, compiled and handed to its loop. */
import { checkLora } from '../adapters/lora.ts';
import { EngineError } from '../errors.ts';
import type { TokenIds, Trainer } from '../types.ts';
import { AdamW } from './adamw.ts';
import { copyLora } from './copies.ts';
import { checkEarlyStopping } from './checks.ts';
import { GRPO_DEFAULTS } from './defaults.ts';
import { EarlyStopping } from './earlyStopping.ts';
import { createExecutor, executorWishes } from './createExecutor.ts';
import { grpoLossSpec } from './grpo.ts';
import { GrpoLoop } from './grpoLoop.ts';
import { groupSizeOf, promptsPerStepOf, RolloutSource } from './grpoRollouts.ts';
import type { GrpoTrainerOptions } from './grpoTypes.ts';
import { createScorer } from './scorer.ts';
import { executorStamp, fingerprint, restoreState, type RunCounters, weightArrays } from './state.ts';

/** Completions of one step. */
const MAX_COMPLETIONS = 4096;
/** The sampler's bound on samples of one prompt. */
const MAX_GROUP = 128;
/** Seeds and steps together span the seeds of a run. */
const MAX_SEED = 2 ** 32;

function bad(message: string): EngineError {
  return new EngineError('engine.train.bad_hyper', message);
}

function wholeNumber(name: string, value: number, low: number, high: number): void {
  if (!Number.isInteger(value) || value < low || value > high) {
    throw bad(`${name} must be an integer from ${low} to ${high}, found ${value}`);
  }
}

function checkSettings({ hyper, evaluation }: GrpoTrainerOptions): void {
  checkEarlyStopping(hyper.earlyStopping, evaluation !== undefined);
  if (evaluation !== undefined) {
    wholeNumber('evaluation.everySteps', evaluation.everySteps, 1, MAX_SEED);
    wholeNumber('evaluation.samples', evaluation.samples ?? 1, 1, MAX_GROUP);
  }
  wholeNumber('steps', hyper.steps, 1, MAX_SEED);
  wholeNumber('promptsPerStep', promptsPerStepOf(hyper), 1, MAX_COMPLETIONS);
  wholeNumber('groupSize', groupSizeOf(hyper), 2, MAX_GROUP);
  wholeNumber('promptsPerStep * groupSize', promptsPerStepOf(hyper) * groupSizeOf(hyper), 2, MAX_COMPLETIONS);
  wholeNumber('batchSize', hyper.batchSize ?? 1, 1, MAX_COMPLETIONS);
  wholeNumber('numIterations', hyper.numIterations ?? 1, 1, 1000);
  wholeNumber('maxTokens', hyper.maxTokens, 1, 2 ** 31 - 1);
  wholeNumber('seed', hyper.seed, 0, MAX_SEED - 1);
  for (const name of ['learningRate', 'beta', 'epsilon', 'epsilonHigh'] as const) {
    const value = hyper[name] ?? 0;
    if (!(value >= 0 && value < Infinity)) throw bad(`${name} must be a number that is not negative, found ${value}`);
  }
  if ((hyper.epsilon ?? GRPO_DEFAULTS.epsilon) >= 1) throw bad(`epsilon must be below 1, found ${hyper.epsilon}`);
}

/** Length of the longest prompt, and with it of the longest row. */
function checkPrompts({ prompts, evaluation, hyper, model }: GrpoTrainerOptions): number {
  if (prompts.length === 0) throw new EngineError('engine.train.no_data', 'there are no prompts to train on');
  if (evaluation?.prompts.length === 0) {
    throw new EngineError('engine.train.no_data', 'there are no prompts to evaluate with');
  }
  const { vocabSize, maxPositions } = model.config;
  const longestOf = (name: string, of: readonly TokenIds[]): number =>
    of.reduce((longest, prompt, i) => {
      if (prompt.length === 0) throw new EngineError('engine.train.bad_example', `${name} ${i} is empty`);
      const wrong = Array.from(prompt).find((id) => !(id >= 0 && id < vocabSize));
      if (wrong !== undefined) {
        const message = `${name} ${i} has token id ${wrong}, outside the vocabulary of ${vocabSize}`;
        throw new EngineError('engine.train.bad_token', message);
      }
      return Math.max(longest, prompt.length);
    }, 0);
  const longest = Math.max(longestOf('prompt', prompts), longestOf('evaluation prompt', evaluation?.prompts ?? []));
  const needed = longest + hyper.maxTokens;
  if (needed > maxPositions) {
    const message = `the longest prompt (${longest} tokens) and maxTokens (${hyper.maxTokens}) exceed the model's ${maxPositions} positions`;
    throw new EngineError('engine.train.too_long', message);
  }
  return needed;
}

function printOf(options: GrpoTrainerOptions, loss: unknown): string {
  const { hyper, model, lora, prompts, evaluation, eosTokenIds, tokenizer } = options;
  const reference = options.reference === undefined || options.reference === 'base' ? undefined : options.reference;
  const eos = eosTokenIds ?? tokenizer?.eosTokenId;
  const held = evaluation && { everySteps: evaluation.everySteps, samples: evaluation.samples };
  const settings = { task: 'grpo', hyper, config: model.config, lora: lora.config, loss, eos, held };
  const frozen = [...(reference?.tensors.values() ?? [])].flatMap(({ a, b }) => [a.data, b.data]);
  return fingerprint(settings, [...prompts, ...(evaluation?.prompts ?? []), ...weightArrays(model), ...frozen]);
}

/**
 * Prepares a GRPO run (https://arxiv.org/abs/2402.03300): each step samples a group of completions of each of its prompts with
 * the adapter as it stands, has the reward function judge them, and updates the adapter towards what was above its group's
 * mean. The same options and seed give the same adapter bytes as long as the reward function gives the same rewards, also when
 * resumed. Call it and `run` in a worker thread or child process: passes block the thread.
 *
 * A cancelled run ends within a step, or while completions are sampled; the state of the last finished step is saved.
 *
 * @throws EngineError `engine.train.*`, `engine.adapter.*` or `engine.weights.*` for options that cannot work;
 * `engine.train.bad_reward` from `run`; TrainingCancelled from `run`
 */
export async function createGrpoTrainer(options: GrpoTrainerOptions): Promise<Trainer> {
  checkSettings(options);
  const rowLength = checkPrompts(options);
  const { model, hyper, threads = 1 } = options;
  checkLora(model.config, options.lora);
  if (options.reference !== undefined && options.reference !== 'base') checkLora(model.config, options.reference);
  const lora = copyLora(options.lora);
  const loss = grpoLossSpec(hyper);
  const texts = hyper.batchSize ?? promptsPerStepOf(hyper) * groupSizeOf(hyper);
  const executor = await createExecutor({
    model,
    lora,
    loss,
    rowLength,
    passTokens: rowLength * texts,
    threads,
    ...executorWishes(options),
  });
  try {
    const optimizer = new AdamW(executor.parameters, {
      betas: hyper.betas ?? [0.9, 0.999],
      eps: hyper.eps ?? 1e-8,
      weightDecay: hyper.weightDecay ?? 0,
    });
    const stopping = hyper.earlyStopping && new EarlyStopping(hyper.earlyStopping, executor.parameters);
    let printed: string | undefined;
    const print = (): string => (printed ??= executorStamp(executor.choice) + printOf(options, loss));
    const counters: RunCounters =
      options.resumeFrom === undefined
        ? { step: 0, firstLoss: Number.NaN, lastLoss: Number.NaN }
        : restoreState(options.resumeFrom, print(), optimizer, [], stopping);
    return new GrpoLoop({
      options,
      lora,
      loss,
      executor,
      optimizer,
      rollouts: new RolloutSource(options, rowLength),
      scorer: loss.beta > 0 ? await createScorer({ model, threads }) : undefined,
      print,
      counters,
      stopping,
    });
  } catch (error) {
    await executor.close();
    throw error;
  }
}
