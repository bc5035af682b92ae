/** The arithmetic of group relative policy optimisation, and the inputs of its passes. */
import { floatTensor } from '../graph/session.ts';
import { type LossSpec, INPUT } from '../models/losses.ts';
import type { GrpoHyper, TokenIds } from '../types.ts';
import { assemble, pickWeights, type Row } from './batch.ts';
import { GRPO_DEFAULTS } from './defaults.ts';
import type { Pass } from './task.ts';

/** Keeps a group of equal rewards from dividing by 0; TRL's constant. */
const STD_EPS = 1e-4;

/** One sampled text of a step. */
export interface Sampled {
  readonly prompt: TokenIds;
  /** What was sampled, the stop token included. */
  readonly completion: readonly number[];
}

function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

/** Standard deviation with Bessel's correction; 0 for fewer than two values. */
export function deviation(values: readonly number[]): number {
  if (values.length < 2) return 0;
  const centre = mean(values);
  return Math.sqrt(values.reduce((sum, v) => sum + (v - centre) ** 2, 0) / (values.length - 1));
}

/**
 * Rewards less their group's mean, over the deviation of the group (https://arxiv.org/abs/2402.03300), of the whole step
 * (https://arxiv.org/abs/2508.08221), or over nothing (https://arxiv.org/abs/2503.20783).
 *
 * @param rewards groups of `groupSize`, one after the other
 */
export function groupAdvantages(
  rewards: readonly number[],
  groupSize: number,
  scaleRewards: NonNullable<GrpoHyper['scaleRewards']>,
): number[] {
  const whole = deviation(rewards);
  return rewards.map((reward, i) => {
    const start = i - (i % groupSize);
    const group = rewards.slice(start, start + groupSize);
    const centred = reward - mean(group);
    if (scaleRewards === 'none') return centred;
    return centred / ((scaleRewards === 'group' ? deviation(group) : whole) + STD_EPS);
  });
}

/**
 * Share of a text's tokens in the loss of a step: each text alike ('grpo'), each token alike ('bnpo'), or each token alike
 * against a constant number of them ('dr_grpo').
 */
export function tokenShares(
  lengths: readonly number[],
  lossType: NonNullable<GrpoHyper['lossType']>,
  maxTokens: number,
): number[] {
  const total = lengths.reduce((a, b) => a + b, 0);
  return lengths.map((length) => {
    if (lossType === 'grpo') return 1 / (lengths.length * length);
    return lossType === 'bnpo' ? 1 / total : 1 / (lengths.length * maxTokens);
  });
}

/** Prompt and completion; every token of the completion is picked, with `weight`. */
export function sampledRow({ prompt, completion }: Sampled, weight: number): Row {
  const picks = completion.map((label, t) => ({ column: prompt.length + t - 1, label, weight, slot: 0 }));
  return { segments: [{ ids: prompt }, { ids: completion, parent: 0 }], picks };
}

/** What a text brings to a pass: an advantage, a share, and per token of the completion what came before. */
export interface PassText extends Sampled {
  readonly advantage: number;
  readonly share: number;
  /** log-probabilities when it was sampled; absent while the policy is still that one. */
  readonly old: Float32Array | undefined;
  /** log-probabilities under the reference, with a KL term. */
  readonly reference: Float32Array | undefined;
}

/** Inputs of one pass over some texts of a step, all of them with `old` or none. */
export function grpoPass(texts: readonly PassText[], chunks: number): Pass {
  const pass = assemble(
    texts.map((text) => sampledRow(text, text.share)),
    chunks,
  );
  const column = (of: (text: PassText, t: number) => number): ReturnType<typeof floatTensor> => {
    const values = new Float32Array(pass.picked);
    let at = 0;
    for (const text of texts) for (let t = 0; t < text.completion.length; t++) values[at++] = of(text, t);
    return floatTensor(values, [pass.picked, 1]);
  };
  const started = texts.some(({ old }) => old !== undefined);
  const compared = texts.some(({ reference }) => reference !== undefined);
  return {
    tokens: pass.tokens,
    feeds: {
      ...pass.feeds,
      ...pickWeights(pass, 1, 1),
      [INPUT.old]: column(({ old }, t) => old?.[t] ?? 0),
      [INPUT.started]: floatTensor(Float32Array.of(started ? 1 : 0), [1, 1]),
      [INPUT.advantages]: column(({ advantage }) => advantage),
      ...(compared && { [INPUT.reference]: column(({ reference }, t) => reference?.[t] ?? 0) }),
    },
  };
}

/** A pass's log-probabilities, text by text. */
export function splitByText(texts: readonly Sampled[], logProbs: Float32Array): Float32Array[] {
  let at = 0;
  return texts.map(({ completion }) => logProbs.slice(at, (at += completion.length)));
}

/** Sums over a pass's tokens for what progress reports. */
export interface PassFigures {
  readonly tokens: number;
  /** Tokens whose ratio the clip holds back. */
  readonly clipped: number;
  /** Sum of the KL term, as it enters the loss before beta. */
  readonly kl: number;
}

/** The figures of a pass from the log-probabilities it computed. */
export function passFigures(
  texts: readonly PassText[],
  now: readonly Float32Array[],
  loss: Extract<LossSpec, { kind: 'grpo' }>,
): PassFigures {
  let tokens = 0;
  let clipped = 0;
  let kl = 0;
  texts.forEach(({ old, reference, advantage }, i) => {
    now[i]!.forEach((value, t) => {
      const ratio = old === undefined ? 1 : Math.exp(value - old[t]!);
      tokens++;
      if (advantage < 0 ? ratio < 1 - loss.epsilonLow : advantage > 0 && ratio > 1 + loss.epsilonHigh) clipped++;
      if (reference === undefined) return;
      const d = reference[t]! - value;
      kl += (Math.exp(d) - d - 1) * (loss.klCorrection ? ratio : 1);
    });
  });
  return { tokens, clipped, kl };
}

/** The loss of a run, with every default filled in. */
export function grpoLossSpec(hyper: GrpoHyper): Extract<LossSpec, { kind: 'grpo' }> {
  return {
    kind: 'grpo',
    beta: hyper.beta ?? GRPO_DEFAULTS.beta,
    epsilonLow: hyper.epsilon ?? GRPO_DEFAULTS.epsilon,
    epsilonHigh: hyper.epsilonHigh ?? hyper.epsilon ?? GRPO_DEFAULTS.epsilon,
    klCorrection: hyper.klCorrection ?? GRPO_DEFAULTS.klCorrection,
  };
}
