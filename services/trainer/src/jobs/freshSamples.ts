import { createHash } from 'node:crypto';
import type { TestPrompt } from '@tuneloop/contracts/datasets/internal';
import { generate } from '@tuneloop/contracts/responses/internal';
import { judge } from '@tuneloop/contracts/rewards/internal';
import { AppError } from '@tuneloop/runtime/errors';
import type { TrainerContext } from '../config.ts';
import type { FreshGroup, JudgedComparison } from '../domain/evaluation.ts';
import type { DeploymentTarget } from '../store/deployments.ts';

/** Prompts of one call; with four samples each they fill the serve process' batch. */
const GENERATE_ITEMS = 16;
/** Calls under way at a time, over both sides. */
const GENERATE_CONCURRENCY = 2;
const GENERATE_TIMEOUT_MS = 300_000;
const JUDGE_ITEMS = 250;
const JUDGE_TIMEOUT_MS = 300_000;
const SEED_BITS = 2 ** 31;

export interface Sampling {
  readonly projectId: string;
  readonly correlationId: string;
  readonly signal: AbortSignal;
  /** Names this evaluation's calls, so that a repeated one is the same one. */
  readonly key: string;
  readonly seed: number;
  readonly samples: number;
  readonly rounds: number;
  readonly temperature: number;
  readonly topP: number;
  readonly maxTokens: number;
  readonly onProgress: (stage: string, done: number, total: number) => void;
}

/** Samples of both sides, a list for each prompt. */
export interface SampledPrompt {
  readonly prompt: TestPrompt;
  readonly before: readonly string[];
  readonly after: readonly string[];
}

/** A seed for one purpose, the same in every try. */
function seedFor(...parts: readonly (string | number)[]): number {
  return createHash('sha256').update(parts.join('/')).digest().readUInt32BE(0) % SEED_BITS;
}

/** Answers to each prompt by what serves and by the candidate. */
export async function sampleBoth(
  ctx: TrainerContext,
  prompts: readonly TestPrompt[],
  targets: { readonly before: DeploymentTarget; readonly after: DeploymentTarget },
  sampling: Sampling,
): Promise<SampledPrompt[]> {
  const chunks: { side: 'before' | 'after'; from: number }[] = [];
  for (let from = 0; from < prompts.length; from += GENERATE_ITEMS) {
    chunks.push({ side: 'before', from }, { side: 'after', from });
  }
  const answers = { before: new Map<number, string[]>(), after: new Map<number, string[]>() };
  let next = 0;
  let done = 0;
  const lane = async (): Promise<void> => {
    for (let chunk = chunks[next++]; chunk; chunk = chunks[next++]) {
      const { side, from } = chunk;
      const items = prompts.slice(from, from + GENERATE_ITEMS);
      const texts = await sampleChunk(ctx, items, from, side, targets[side], sampling);
      texts.forEach((list, i) => answers[side].set(from + i, list));
      sampling.onProgress('sampling', ++done, chunks.length);
    }
  };
  await Promise.all(Array.from({ length: GENERATE_CONCURRENCY }, lane));
  return prompts.map((prompt, i) => ({
    prompt,
    before: answers.before.get(i) ?? [],
    after: answers.after.get(i) ?? [],
  }));
}

async function sampleChunk(
  ctx: TrainerContext,
  prompts: readonly TestPrompt[],
  from: number,
  side: 'before' | 'after',
  target: DeploymentTarget,
  sampling: Sampling,
): Promise<string[][]> {
  const { weight: _weight, ...model } = target;
  const answer = await ctx.callers.call(
    generate,
    {
      body: {
        target: model,
        items: prompts.map((prompt, i) => ({
          key: String(i),
          messages: prompt.messages,
          n: sampling.samples,
          seed: seedFor(sampling.seed, side, prompt.group_key),
        })),
        temperature: sampling.temperature,
        top_p: sampling.topP,
        max_tokens: sampling.maxTokens,
        purpose: 'evaluation',
      },
    },
    {
      ...callOptions(sampling),
      timeoutMs: GENERATE_TIMEOUT_MS,
      idempotencyKey: `${sampling.key}-${side}-${target.checkpoint_id ?? 'base'}-${from}`,
    },
  );
  const byKey = new Map(answer.items.map((item) => [item.key, item.choices.map((choice) => choice.text)]));
  return prompts.map((_prompt, i) => {
    const texts = byKey.get(String(i));
    if (texts?.length === sampling.samples) return texts;
    throw new AppError({
      code: 'trainer.samples.missing',
      status: 502,
      message: `${texts?.length ?? 0} samples of ${sampling.samples} came back for a test prompt.`,
      retry: true,
    });
  });
}

function callOptions({ projectId, correlationId, signal }: Sampling) {
  return { projectId, correlationId, signal };
}

interface Planned {
  readonly group: number;
  readonly candidate: number;
  readonly baseline: number;
  readonly candidateFirst: boolean;
}

/** Which samples meet: each of the candidate's against `rounds` of the other side's; who stands first is balanced. */
function planComparisons(sampled: readonly SampledPrompt[], sampling: Sampling): Planned[] {
  return sampled.flatMap(({ prompt, before, after }, group) => {
    const flip = seedFor(sampling.seed, 'order', prompt.group_key) % 2;
    const rounds = Math.min(sampling.rounds, before.length);
    return after.flatMap((_text, candidate) =>
      Array.from({ length: rounds }, (_, round) => ({
        group,
        candidate,
        baseline: (candidate + round) % before.length,
        candidateFirst: (candidate + round + flip) % 2 === 0,
      })),
    );
  });
}

export interface Judged {
  readonly judge: { readonly kind: string; readonly name: string };
  readonly groups: FreshGroup[];
}

/** The project's judge on pairs of samples, blind to which side is which. Null when the project has no judge. */
export async function judgeSamples(
  ctx: TrainerContext,
  sampled: readonly SampledPrompt[],
  sampling: Sampling,
): Promise<Judged | null> {
  const plan = planComparisons(sampled, sampling);
  const comparisons = sampled.map((): JudgedComparison[] => []);
  let who: Judged['judge'] | null = null;
  for (let from = 0; from < plan.length; from += JUDGE_ITEMS) {
    const part = plan.slice(from, from + JUDGE_ITEMS);
    const answer = await judgeChunk(ctx, sampled, part, from, sampling);
    if (!answer) return null;
    who = { kind: answer.judge.kind, name: answer.judge.name };
    const verdicts = new Map(answer.items.map((item) => [item.key, item]));
    part.forEach((planned, i) => {
      const verdict = verdicts.get(String(from + i));
      if (!verdict || verdict.outcome === null || verdict.scores.length !== 2) {
        throw new AppError({
          code: 'trainer.verdict.missing',
          status: 502,
          message: 'The judge left a comparison out.',
          retry: true,
        });
      }
      const first = planned.candidateFirst ? 0 : 1;
      comparisons[planned.group]!.push({
        candidate: planned.candidate,
        baseline: planned.baseline,
        candidateFirst: planned.candidateFirst,
        outcome: planned.candidateFirst ? verdict.outcome : 1 - verdict.outcome,
        candidateScore: verdict.scores[first]!,
        baselineScore: verdict.scores[1 - first]!,
        candidateDetails: verdict.details[first] ?? {},
        baselineDetails: verdict.details[1 - first] ?? {},
      });
    });
    sampling.onProgress('judging', Math.min(from + JUDGE_ITEMS, plan.length), plan.length);
  }
  if (!who) return null;
  const groups = sampled.map(({ prompt, before, after }, i) => ({
    groupId: prompt.group_key,
    before,
    after,
    comparisons: comparisons[i]!,
  }));
  return { judge: who, groups };
}

async function judgeChunk(
  ctx: TrainerContext,
  sampled: readonly SampledPrompt[],
  part: readonly Planned[],
  from: number,
  sampling: Sampling,
) {
  try {
    return await ctx.callers.call(
      judge,
      {
        body: {
          seed: sampling.seed,
          items: part.map((planned, i) => {
            const { prompt, before, after } = sampled[planned.group]!;
            const pair = [after[planned.candidate]!, before[planned.baseline]!];
            return {
              key: String(from + i),
              prompt: promptText(prompt),
              facts: prompt.facts,
              answers: planned.candidateFirst ? pair : pair.toReversed(),
            };
          }),
        },
      },
      { ...callOptions(sampling), timeoutMs: JUDGE_TIMEOUT_MS, idempotencyKey: `${sampling.key}-judge-${from}` },
    );
  } catch (error) {
    if (error instanceof AppError && error.code === 'rewards.judge.not_configured') return null;
    throw error;
  }
}

/** What the person asked: the text of the last message of theirs. */
export function promptText(prompt: TestPrompt): string {
  const asked = prompt.messages.findLast((message) => message.role === 'user') ?? prompt.messages.at(-1);
  const content = asked?.content ?? '';
  if (typeof content === 'string') return content;
  return content.map((part) => (typeof part.text === 'string' ? part.text : '')).join('\n');
}
