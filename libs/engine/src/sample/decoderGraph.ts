/**
 * The graph of generation: tokens in, logits of each row's last token and the new keys and values out. The graphs of prompts
 * (many tokens, empty cache) and of steps (one token a row, long cache) differ only in how matrices are multiplied.
 *
 * The cache is an input that the caller keeps and writes: outputs are copied by the runtime, so only the new rows leave
 * the graph. Scores over the cache and over the new tokens are two products joined before the softmax, so that the cache
 * is never copied inside the graph either.
 */
import { type Dim, Graph, int, type Value } from '../graph/graph.ts';
import { batchedProduct } from '../graph/ops/linear.ts';
import { rowsAt } from '../graph/ops/lookup.ts';
import { reshape, shapeFrom, transpose } from '../graph/ops/shape.ts';
import {
  attentionInputs,
  attentionOutput,
  embed,
  finalNorm,
  groupedMask,
  inputNorm,
  type LlamaValues,
  mlp,
  moduleName,
  type QueryKeyValue,
} from '../models/llama.ts';
import { type BaseModel, LORA_TARGETS } from '../types.ts';
import { type DecoderForm, DecoderValues } from './decoderValues.ts';

/** Inputs besides weights and adapters. */
export const DECODER_INPUT = {
  ids: 'ids', // int64 [batch, seq]
  positions: 'positions', // int64 [batch, seq]
  pastMask: 'past_mask', // float32 [batch, 1, 1, past]: 0 for a kept key, a large negative number for an unused place
  newMask: 'new_mask', // float32 [1, 1, seq, seq]: causal
  picks: 'picks', // int64 [picked]: batch * seq + column of the states whose logits are wanted
} as const;

export const pastKeyName = (layer: number): string => `past_key_${layer}`; // float32 [batch, kvHeads, past, headDim]
export const pastValueName = (layer: number): string => `past_value_${layer}`;
export const newKeyName = (layer: number): string => `new_key_${layer}`; // float32 [batch, seq, kvHeads * headDim]
export const newValueName = (layer: number): string => `new_value_${layer}`;
export const LOGITS = 'logits'; // float32 [picked, vocab]
/** log sum exp of each row of the logits: a loop in JavaScript over a large vocabulary takes longer than all attention. */
export const LOG_TOTALS = 'log_totals'; // float32 [picked, 1]

interface Masks {
  readonly past: Value;
  readonly fresh: Value;
}

/** Query rows of the heads that share a key head, stacked: `[batch, seq, heads * d]` to `[batch, kvHeads, group * seq, d]`. */
function stackQueries(model: LlamaValues, q: Value): Value {
  const { graph, config } = model;
  const group = config.numHeads / config.numKvHeads;
  const [batch, seq] = q.dims as [Dim, Dim];
  const split = [batch, seq, config.numKvHeads, group, config.headDim];
  const headed = transpose(graph, reshape(graph, q, split), [0, 2, 3, 1, 4]);
  const rows = [batch, config.numKvHeads, 'rows', config.headDim];
  return reshape(graph, headed, rows);
}

/** Attention over the cache and the new tokens; gives `[tokens, heads * d]`. */
function cachedAttention(model: LlamaValues, qkv: QueryKeyValue, layer: number, masks: Masks): Value {
  const { graph, config } = model;
  const { headDim, numKvHeads } = config;
  const [batch, seq] = qkv.q.dims as [Dim, Dim];
  const cacheDims = [batch, numKvHeads, 'past', headDim];
  const pastKey = graph.input(pastKeyName(layer), cacheDims);
  const pastValue = graph.input(pastValueName(layer), cacheDims);
  const byHead = (x: Value): Value =>
    transpose(graph, reshape(graph, x, [batch, seq, numKvHeads, headDim]), [0, 2, 1, 3]);
  const key = byHead(qkv.k);
  const value = byHead(qkv.v);
  const q = stackQueries(model, qkv.q);
  const alpha = 1 / Math.sqrt(headDim);
  const masked = (keys: Value, mask: Value): Value => {
    const scores = batchedProduct(graph, q, keys, { transB: true, alpha });
    return graph.node('Add', [scores, mask], scores.dims);
  };
  const pastScores = masked(pastKey, masks.past);
  const scores = graph.node('Concat', [pastScores, masked(key, masks.fresh)], [...q.dims.slice(0, 3), 'keys'], {
    attributes: { axis: int(-1) },
  });
  const weights = graph.node('Softmax', [scores], scores.dims, { attributes: { axis: int(-1) } });
  const sizes = shapeFrom(graph, pastScores, ['past']);
  const slice = (from: Value, to: Value, dims: readonly Dim[]): Value =>
    graph.node('Slice', [weights, from, to, graph.int64s([3])], dims);
  const end = graph.int64s([Number.MAX_SAFE_INTEGER]);
  const pastWeights = slice(graph.int64s([0]), sizes, pastScores.dims);
  const newWeights = slice(sizes, end, [...q.dims.slice(0, 3), seq]);
  const context = graph.node(
    'Add',
    [batchedProduct(graph, pastWeights, pastValue), batchedProduct(graph, newWeights, value)],
    q.dims,
  );
  const group = config.numHeads / numKvHeads;
  const back = [batch, numKvHeads, group, seq, headDim];
  const ungrouped = transpose(graph, reshape(graph, context, back, shapeFrom(graph, qkv.q, back)), [0, 3, 1, 2, 4]);
  return reshape(graph, ungrouped, ['tokens', config.numHeads * headDim]);
}

/** log sum exp of each row, as what its first logit loses to become a log-probability. `logits: [rows, vocab]`. */
function logTotals(graph: Graph, logits: Value): Value {
  const column = [logits.dims[0]!, 1];
  const first = (x: Value): Value =>
    graph.node('Slice', [x, graph.int64s([0]), graph.int64s([1]), graph.int64s([1])], column);
  const logProbs = graph.node('LogSoftmax', [logits], logits.dims, { attributes: { axis: int(-1) } });
  return graph.node('Sub', [first(logits), first(logProbs)], column);
}

export interface DecoderGraphOptions {
  /** Size of the rotary tables; no position may reach it. */
  readonly positions: number;
  readonly adapters: boolean;
  readonly form: DecoderForm;
}

/**
 * Builds the graph for a model. With `adapters`, each adapted projection has a stack of adapters along the rank axis and
 * `lora_scale: [tokens, rank]` picks each token's own: alpha / r in its adapter's columns, 0 elsewhere.
 */
export function buildDecoderGraph(
  { config, quantized }: Pick<BaseModel, 'config' | 'quantized'>,
  { positions, adapters, form }: DecoderGraphOptions,
): Graph {
  const graph = new Graph();
  const modules = new Set<string>();
  for (let layer = 0; layer < config.numLayers; layer++) {
    for (const target of LORA_TARGETS) modules.add(moduleName(layer, target));
  }
  const shape = adapters ? { r: 'rank', modules, scale: ['tokens', 'rank'] } : undefined;
  const model = new DecoderValues(graph, config, positions, shape, quantized, form);
  const ids = graph.input(DECODER_INPUT.ids, ['batch', 'seq'], 'int64');
  const place = graph.input(DECODER_INPUT.positions, ['batch', 'seq'], 'int64');
  const pastMask = graph.input(DECODER_INPUT.pastMask, ['batch', 1, 1, 'past']);
  const newMask = graph.input(DECODER_INPUT.newMask, [1, 1, 'seq', 'seq']);
  const picks = graph.input(DECODER_INPUT.picks, ['picked'], 'int64');
  const masks = { past: pastMask, fresh: groupedMask(model, newMask) };
  let x = embed(model, graph.node('Reshape', [ids, graph.int64s([-1])], ['tokens'], { type: 'int64' }));
  for (let layer = 0; layer < config.numLayers; layer++) {
    const qkv = attentionInputs(model, inputNorm(model, x, layer), place, layer);
    graph.output(newKeyName(layer), qkv.k);
    graph.output(newValueName(layer), qkv.v);
    x = mlp(model, attentionOutput(model, x, cachedAttention(model, qkv, layer, masks), layer), layer);
  }
  const picked = finalNorm(model, rowsAt(graph, x, picks));
  const logits = model.logits(picked);
  graph.output(LOGITS, logits);
  graph.output(LOG_TOTALS, logTotals(graph, logits));
  return graph;
}
