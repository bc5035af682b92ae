/**
 * From the hidden states after the last layer to the loss of a pass. One form serves every method: states are picked at
 * the positions that count, their labels' log-probabilities are computed, and a matrix of weights made by the batcher
 * sums them into sequence scores. The batcher thereby decides on padding, packing, shared prompts and loss masks; the
 * graph knows none of them. `lossOutputs` takes only the parameters of the head, so it also makes a graph of its own.
 */
import type { Graph, Value } from '../graph/graph.ts';
import { add, multiply, scale, subtract, sum } from '../graph/ops/arithmetic.ts';
import { logSigmoid, sigmoid } from '../graph/ops/activation.ts';
import { gemm } from '../graph/ops/linear.ts';
import { chunkedLabelLogProbs, labelLogProbs, rowsAt } from '../graph/ops/lookup.ts';
import { reshape } from '../graph/ops/shape.ts';
import type { ModelConfig } from '../types.ts';
import { type GrpoLoss, grpoLoss } from './grpoLoss.ts';
import { finalNorm, type LlamaValues } from './llama.ts';

/** Inputs of a pass besides weights and adapters. */
export const INPUT = {
  ids: 'ids', // int64 [batch, seq]
  positions: 'positions', // int64 [batch, seq]
  mask: 'mask', // float32 [batch, 1, seq, seq]
  picks: 'picks', // int64 [picked]: batch * seq + column of the state that predicts
  labels: 'labels', // int64 [picked]
  weights: 'weights', // float32 [rows, picked]: SFT, GRPO one row; DPO rows 2p (chosen) and 2p + 1 (rejected)
  reference: 'reference', // float32 [pairs, 1]: reference log p(chosen) - log p(rejected); KTO [rows, 1]: log p; GRPO [picked, 1]
  pairWeights: 'pair_weights', // float32 [pairs, 1]: share of each pair in the loss
  rowWeights: 'row_weights', // float32 [rows, 1]: share of each text in the loss (KTO)
  signs: 'signs', // float32 [rows, 1]: 1 for a desirable text, -1 for an undesirable one (KTO)
  targets: 'targets', // float32 [picked, dimensions]: scores to predict (reward); [pairs, dimensions]: margins of pairs
  rewardWeights: 'reward_weights', // float32, of the same shape: share of each in the loss (reward)
  old: 'old', // float32 [picked, 1]: log-probabilities when the texts were sampled (GRPO)
  started: 'started', // float32 [1, 1]: 0 while the policy is the one that sampled (GRPO)
  advantages: 'advantages', // float32 [picked, 1]: of the text that a token belongs to (GRPO)
  divergence: 'divergence', // float32 [1, 1]: estimate of KL(policy, reference), a constant of the pass (KTO)
} as const;

export const OUTPUT = {
  loss: 'loss',
  logProbs: 'log_probs', // float32 [picked, 1]
  margins: 'margins', // float32 [pairs, 1]
  scores: 'scores', // float32 [rows, 1]: log-probability of each text
  rewards: 'rewards', // float32 [picked, dimensions]
} as const;

/** Outputs of a pass besides the loss: which of them there are depends on the loss. */
export const PASS_OUTPUTS = [
  'logProbs',
  'margins',
  'scores',
  'rewards',
] as const satisfies readonly (keyof typeof OUTPUT)[];
export type PassOutput = (typeof PASS_OUTPUTS)[number];

export interface DpoLoss {
  readonly kind: 'dpo';
  readonly beta: number;
  readonly labelSmoothing: number;
  /** nllWeight / nllDivisor: the factor of -log p(chosen). */
  readonly nllFactor: number;
}
export interface KtoLoss {
  readonly kind: 'kto';
  readonly beta: number;
}
export interface RewardLoss {
  readonly kind: 'reward';
  /** Pairs to tell apart, or texts whose scores to predict. */
  readonly from: 'pairs' | 'scores';
  readonly dimensions: number;
  /** Weight of the squared sum of a pair's rewards, which keeps rewards around 0. */
  readonly centre: number;
}
export type LossSpec = { readonly kind: 'sft' } | DpoLoss | KtoLoss | RewardLoss | GrpoLoss;

/** The reward head, `[dimensions, hidden]`, by Transformers' name in sequence classification models. */
export const SCORE_WEIGHT = 'score.weight';

/** Names of the trained parameters that a loss brings along. */
export function lossParameters(spec: LossSpec): readonly string[] {
  return spec.kind === 'reward' ? [SCORE_WEIGHT] : [];
}

/** The parameters a loss is computed with: `model.norm.weight` and the output embedding, as values of one graph. */
export type HeadValues = Pick<LlamaValues, 'graph' | 'config' | 'weight' | 'head'>;

export interface HeadOptions {
  /** Parts in which logits are made, see `logitChunks`; the number of picks must be a multiple. */
  readonly chunks: number;
  /** False: no gradient will be asked for. */
  readonly differentiable: boolean;
}

/** Logits held at once, in elements: 32 MiB. Below that, parts cost more than they save. */
const CHUNK_ELEMENTS = 2 ** 23;
const MAX_CHUNKS = 16;

/** In how many parts to make the logits of a pass of at most `tokens`. A trained head keeps them whole. */
export function logitChunks(config: ModelConfig, tokens: number, headIsTrained: boolean): number {
  if (headIsTrained) return 1;
  return Math.min(MAX_CHUNKS, Math.ceil((tokens * config.vocabSize) / CHUNK_ELEMENTS));
}

/**
 * log-probability of each picked label, `[picked, 1]`, from `states: [tokens, hidden]` after the last layer, before the
 * final norm. Declares the inputs `picks` and `labels`.
 */
export function pickedLogProbs(head: HeadValues, states: Value, options: HeadOptions): Value {
  const { graph } = head;
  const picks = graph.input(INPUT.picks, ['picked'], 'int64');
  const labels = graph.input(INPUT.labels, ['picked'], 'int64');
  const picked = rowsAt(graph, finalNorm(head, states), picks);
  return options.chunks === 1
    ? labelLogProbs(graph, picked, head.head, labels)
    : chunkedLabelLogProbs(graph, picked, head.head, labels, options);
}

/** -weights . logProbs, a scalar. */
function sftLoss(graph: Graph, logProbs: Value): Value {
  const weights = graph.input(INPUT.weights, [1, 'picked']);
  return scale(graph, sum(graph, gemm(graph, weights, logProbs)), -1);
}

/**
 * Direct preference optimisation (https://arxiv.org/abs/2305.18290) with label smoothing e (conservative DPO) and an NLL
 * term on the chosen text (https://arxiv.org/abs/2404.19733): the sum over pairs of
 * w [-(1 - e) log s(m) - e log s(-m) - f log p(chosen)] with m = beta (log-ratio difference - reference).
 */
function dpoLoss(graph: Graph, logProbs: Value, spec: DpoLoss): Value {
  const weights = graph.input(INPUT.weights, ['rows', 'picked']);
  const reference = graph.input(INPUT.reference, ['pairs', 1]);
  const pairWeights = graph.input(INPUT.pairWeights, ['pairs', 1]);
  const scores = reshape(graph, gemm(graph, weights, logProbs), ['pairs', 2]);
  const difference = gemm(graph, scores, graph.constant([2, 1], Float32Array.of(1, -1)));
  const margin = scale(graph, subtract(graph, difference, reference), spec.beta);
  graph.output(OUTPUT.margins, margin);
  let perPair = scale(graph, logSigmoid(graph, margin), -(1 - spec.labelSmoothing));
  if (spec.labelSmoothing > 0) {
    const flipped = logSigmoid(graph, scale(graph, margin, -1));
    perPair = add(graph, perPair, scale(graph, flipped, -spec.labelSmoothing));
  }
  if (spec.nllFactor !== 0) {
    perPair = add(graph, perPair, gemm(graph, scores, graph.constant([2, 1], Float32Array.of(-spec.nllFactor, 0))));
  }
  return sum(graph, multiply(graph, perPair, pairWeights));
}

/**
 * Kahneman-Tversky optimisation (https://arxiv.org/abs/2402.01306, equation 7): the sum over texts of
 * w [1 - s(sign beta (log p - reference - divergence))]. No gradient goes through the divergence.
 */
function ktoLoss(graph: Graph, logProbs: Value, spec: KtoLoss): Value {
  const weights = graph.input(INPUT.weights, ['rows', 'picked']);
  const reference = graph.input(INPUT.reference, ['rows', 1]);
  const divergence = graph.input(INPUT.divergence, [1, 1]);
  const signs = graph.input(INPUT.signs, ['rows', 1]);
  const rowWeights = graph.input(INPUT.rowWeights, ['rows', 1]);
  const scores = gemm(graph, weights, logProbs);
  graph.output(OUTPUT.scores, scores);
  const ratio = subtract(graph, subtract(graph, scores, reference), divergence);
  const margin = scale(graph, multiply(graph, ratio, signs), -spec.beta);
  return sum(graph, multiply(graph, sigmoid(graph, margin), rowWeights));
}

/** GRPO's loss on the picked tokens; its log-probabilities are an output, from which all that is reported is made. */
function policyLoss(graph: Graph, logProbs: Value, spec: GrpoLoss): Value {
  graph.output(OUTPUT.logProbs, logProbs);
  const column = (name: string): Value => graph.input(name, ['picked', 1]);
  const inputs = {
    logProbs,
    old: column(INPUT.old),
    started: graph.input(INPUT.started, [1, 1]),
    reference: spec.beta === 0 ? logProbs : column(INPUT.reference),
    advantages: column(INPUT.advantages),
    weights: reshape(graph, graph.input(INPUT.weights, [1, 'picked']), ['picked', 1]),
  };
  return grpoLoss(graph, inputs, spec);
}

/** Names of the graph outputs that `lossOutputs` declares, the loss first. */
export function lossOutputNames(spec: LossSpec): readonly string[] {
  const others: Record<LossSpec['kind'], readonly PassOutput[]> = {
    sft: [],
    dpo: ['margins'],
    kto: ['scores'],
    reward: ['rewards'],
    grpo: ['logProbs'],
  };
  return [OUTPUT.loss, ...others[spec.kind].map((name) => OUTPUT[name])];
}

/** Rewards of the picked states, `[picked, dimensions]`: a linear head without bias. Declares `picks` and the head. */
export function pickedRewards(head: HeadValues, states: Value, dimensions: number): { rewards: Value; weight: Value } {
  const { graph, config } = head;
  const picks = graph.input(INPUT.picks, ['picked'], 'int64');
  const weight = graph.input(SCORE_WEIGHT, [dimensions, config.hiddenSize]);
  const rewards = gemm(graph, rowsAt(graph, finalNorm(head, states), picks), weight, { transB: true });
  return { rewards, weight };
}

/** `[2n, n]`: an identity, and below it another times `sign`. */
function stackedIdentity(graph: Graph, n: number, sign: 1 | -1): Value {
  const data = new Float32Array(2 * n * n);
  for (let i = 0; i < n; i++) {
    data[i * n + i] = 1;
    data[(n + i) * n + i] = sign;
  }
  return graph.constant([2 * n, n], data);
}

/**
 * Reward modelling. Pairs: Bradley and Terry's loss with a margin (https://arxiv.org/abs/2307.09288, section 3.2.2) and a
 * pull to the centre (https://arxiv.org/abs/2312.09244), the sum over pairs and dimensions of
 * w [-log s(r(chosen) - r(rejected) - margin) + centre (r(chosen) + r(rejected))^2]; picks 2p and 2p + 1 are a pair's chosen
 * and rejected text. Scores: the sum of w (r - target)^2.
 */
function rewardLoss(graph: Graph, rewards: Value, spec: RewardLoss): Value {
  graph.output(OUTPUT.rewards, rewards);
  const n = spec.dimensions;
  const rows = spec.from === 'pairs' ? 'pairs' : 'picked';
  const targets = graph.input(INPUT.targets, [rows, n]);
  const weights = graph.input(INPUT.rewardWeights, [rows, n]);
  if (spec.from === 'scores') {
    const error = subtract(graph, rewards, targets);
    return sum(graph, multiply(graph, multiply(graph, error, error), weights));
  }
  const sides = reshape(graph, rewards, [rows, 2 * n]);
  const difference = gemm(graph, sides, stackedIdentity(graph, n, -1));
  let perPair = scale(graph, logSigmoid(graph, subtract(graph, difference, targets)), -1);
  if (spec.centre !== 0) {
    const total = gemm(graph, sides, stackedIdentity(graph, n, 1));
    perPair = add(graph, perPair, scale(graph, multiply(graph, total, total), spec.centre));
  }
  return sum(graph, multiply(graph, perPair, weights));
}

function textLoss(graph: Graph, logProbs: Value, spec: Exclude<LossSpec, RewardLoss>): Value {
  switch (spec.kind) {
    case 'sft':
      return sftLoss(graph, logProbs);
    case 'dpo':
      return dpoLoss(graph, logProbs, spec);
    case 'grpo':
      return policyLoss(graph, logProbs, spec);
    case 'kto':
      return ktoLoss(graph, logProbs, spec);
  }
}

export interface PassLoss {
  /** A scalar to differentiate. */
  readonly loss: Value;
  /** Trained parameters that the loss brings along: those of `lossParameters`. */
  readonly parameters: readonly Value[];
}

/**
 * The loss of a pass from `states: [tokens, hidden]` after the last layer, before the final norm: declares the loss's
 * inputs (`picks` and on) and the outputs of `lossOutputNames`.
 */
export function lossOutputs(head: HeadValues, states: Value, spec: LossSpec, options: HeadOptions): PassLoss {
  const { graph } = head;
  if (spec.kind === 'reward') {
    const { rewards, weight } = pickedRewards(head, states, spec.dimensions);
    const loss = rewardLoss(graph, rewards, spec);
    graph.output(OUTPUT.loss, loss);
    return { loss, parameters: [weight] };
  }
  const loss = textLoss(graph, pickedLogProbs(head, states, options), spec);
  graph.output(OUTPUT.loss, loss);
  return { loss, parameters: [] };
}
