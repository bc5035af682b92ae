/**
 * The graphs of training and scoring. One form serves every task: hidden states are picked at the positions whose next
 * token counts, their labels' log-probabilities are computed, and a matrix of weights made by the batcher sums them
 * into sequence scores. The batcher thereby decides on padding, packing, shared prompts and loss masks; the graph knows
 * none of them.
 */
import { gradients } from '../graph/autodiff.ts';
import { Graph, type Value } from '../graph/graph.ts';
import { add, multiply, scale, subtract, sum } from '../graph/ops/arithmetic.ts';
import { logSigmoid } from '../graph/ops/activation.ts';
import { gemm } from '../graph/ops/linear.ts';
import { chunkedLabelLogProbs, labelLogProbs, rowsAt } from '../graph/ops/lookup.ts';
import { reshape } from '../graph/ops/shape.ts';
import type { ModelConfig } from '../types.ts';
import { type AdapterShape, llamaHidden, LlamaValues } from './llama.ts';

/** Inputs besides weights and adapters. */
export const INPUT = {
  ids: 'ids', // int64 [batch, seq]
  positions: 'positions', // int64 [batch, seq]
  mask: 'mask', // float32 [batch, 1, seq, seq]
  picks: 'picks', // int64 [picked]: batch * seq + column of the state that predicts
  labels: 'labels', // int64 [picked]
  weights: 'weights', // float32 [rows, picked]: SFT one row; DPO rows 2p (chosen) and 2p + 1 (rejected)
  reference: 'reference', // float32 [pairs]: reference log p(chosen) - log p(rejected)
  pairWeights: 'pair_weights', // float32 [pairs]: share of each pair in the loss
} as const;

export const OUTPUT = { loss: 'loss', logProbs: 'log_probs', margins: 'margins' } as const;
export const gradientName = (parameter: string): string => `grad:${parameter}`;

export interface DpoLoss {
  readonly kind: 'dpo';
  readonly beta: number;
  readonly labelSmoothing: number;
  /** nllWeight / nllDivisor: the factor of -log p(chosen). */
  readonly nllFactor: number;
}
export type LossSpec = { readonly kind: 'sft' } | DpoLoss;

export interface TrainingGraphSpec {
  readonly config: ModelConfig;
  /** Size of the rotary tables: no position may reach it. */
  readonly positions: number;
  readonly adapter?: AdapterShape;
  readonly loss: LossSpec;
  /** Parts in which logits are made, see `logitChunks`; the number of picks must be a multiple (default 1). */
  readonly chunks?: number;
  /** Build only the loss, for evaluation. */
  readonly forwardOnly?: boolean;
}

/** Logits held at once, in elements: 32 MiB. Below that, parts cost more than they save. */
const CHUNK_ELEMENTS = 2 ** 23;
const MAX_CHUNKS = 16;

/** In how many parts to make the logits of a pass of at most `tokens`. A trained head keeps them whole. */
export function logitChunks(config: ModelConfig, tokens: number, headIsTrained: boolean): number {
  if (headIsTrained) return 1;
  return Math.min(MAX_CHUNKS, Math.ceil((tokens * config.vocabSize) / CHUNK_ELEMENTS));
}

function pickedLogProbs(graph: Graph, model: LlamaValues, chunks: number, differentiable: boolean): Value {
  const ids = graph.input(INPUT.ids, ['batch', 'seq'], 'int64');
  const positions = graph.input(INPUT.positions, ['batch', 'seq'], 'int64');
  const mask = graph.input(INPUT.mask, ['batch', 1, 'seq', 'seq']);
  const picks = graph.input(INPUT.picks, ['picked'], 'int64');
  const labels = graph.input(INPUT.labels, ['picked'], 'int64');
  const hidden = llamaHidden(model, ids, positions, mask);
  const states = rowsAt(graph, hidden, picks);
  return chunks === 1
    ? labelLogProbs(graph, states, model.head, labels)
    : chunkedLabelLogProbs(graph, states, model.head, labels, { chunks, differentiable });
}

/** log-probability of each picked label: output `log_probs: [picked, 1]`. */
export function scoringGraph(spec: Omit<TrainingGraphSpec, 'loss' | 'forwardOnly'>): Graph {
  const graph = new Graph();
  const model = new LlamaValues(graph, spec.config, spec.positions, spec.adapter);
  graph.output(OUTPUT.logProbs, pickedLogProbs(graph, model, spec.chunks ?? 1, false));
  return graph;
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

export interface TrainingGraph {
  readonly graph: Graph;
  /** Names of the trained parameters, in the order of their gradient outputs `grad:<name>`. */
  readonly parameters: readonly string[];
}

/** Loss and, unless `forwardOnly`, the gradient of every trained parameter (adapters if there are any, else all). */
export function trainingGraph(spec: TrainingGraphSpec): TrainingGraph {
  const graph = new Graph();
  const model = new LlamaValues(graph, spec.config, spec.positions, spec.adapter);
  const logProbs = pickedLogProbs(graph, model, spec.chunks ?? 1, spec.forwardOnly !== true);
  const loss = spec.loss.kind === 'sft' ? sftLoss(graph, logProbs) : dpoLoss(graph, logProbs, spec.loss);
  graph.output(OUTPUT.loss, loss);
  const trained =
    spec.adapter === undefined
      ? [...model.weights.values()]
      : [...model.adapters.keys()].flatMap((module) => {
          const adapter = model.adapters.get(module);
          return adapter === undefined ? [] : [adapter.a, adapter.b];
        });
  const parameters = trained.map((v) => v.name);
  if (spec.forwardOnly === true) return { graph, parameters };
  gradients(graph, loss, trained).forEach((gradient, i) => {
    graph.output(gradientName(parameters[i]!), gradient);
  });
  return { graph, parameters };
}
