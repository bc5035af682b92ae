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
import { finalNorm, type LlamaValues } from './llama.ts';

/** Inputs of a pass besides weights and adapters. */
export const INPUT = {
  ids: 'ids', // int64 [batch, seq]
  positions: 'positions', // int64 [batch, seq]
  mask: 'mask', // float32 [batch, 1, seq, seq]
  picks: 'picks', // int64 [picked]: batch * seq + column of the state that predicts
  labels: 'labels', // int64 [picked]
  weights: 'weights', // float32 [rows, picked]: SFT one row; DPO rows 2p (chosen) and 2p + 1 (rejected)
  reference: 'reference', // float32 [pairs, 1]: reference log p(chosen) - log p(rejected); KTO [rows, 1]: log p
  pairWeights: 'pair_weights', // float32 [pairs, 1]: share of each pair in the loss
  rowWeights: 'row_weights', // float32 [rows, 1]: share of each text in the loss (KTO)
  signs: 'signs', // float32 [rows, 1]: 1 for a desirable text, -1 for an undesirable one (KTO)
  divergence: 'divergence', // float32 [1, 1]: estimate of KL(policy, reference), a constant of the pass (KTO)
} as const;

export const OUTPUT = {
  loss: 'loss',
  logProbs: 'log_probs', // float32 [picked, 1]
  margins: 'margins', // float32 [pairs, 1]
  scores: 'scores', // float32 [rows, 1]: log-probability of each text
} as const;

/** Outputs of a pass besides the loss: which of them there are depends on the loss. */
export const PASS_OUTPUTS = ['logProbs', 'margins', 'scores'] as const satisfies readonly (keyof typeof OUTPUT)[];
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
export type LossSpec = { readonly kind: 'sft' } | DpoLoss | KtoLoss;

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

/** Names of the graph outputs that `lossOutputs` declares, the loss first. */
export function lossOutputNames(spec: LossSpec): readonly string[] {
  const others: Record<LossSpec['kind'], readonly PassOutput[]> = { sft: [], dpo: ['margins'], kto: ['scores'] };
  return [OUTPUT.loss, ...others[spec.kind].map((name) => OUTPUT[name])];
}

function methodLoss(graph: Graph, logProbs: Value, spec: LossSpec): Value {
  switch (spec.kind) {
    case 'sft':
      return sftLoss(graph, logProbs);
    case 'dpo':
      return dpoLoss(graph, logProbs, spec);
    case 'kto':
      return ktoLoss(graph, logProbs, spec);
  }
}

/**
 * The loss of a pass from `states: [tokens, hidden]` after the last layer, before the final norm: declares the loss's
 * inputs (`picks` and on), the outputs of `lossOutputNames`, and gives the loss, a scalar to differentiate.
 */
export function lossOutputs(head: HeadValues, states: Value, spec: LossSpec, options: HeadOptions): Value {
  const { graph } = head;
  const logProbs = pickedLogProbs(head, states, options);
  const loss = methodLoss(graph, logProbs, spec);
  graph.output(OUTPUT.loss, loss);
  return loss;
}
