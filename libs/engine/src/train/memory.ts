/**
 * What each way of computing passes takes, before anything is compiled: the graphs are built and their memory and products
 * counted. The factors below are what the runtime's allocator and workspace add to the count, measured on the SmolLM2-135M
 * shape with 512 and 2048 tokens a pass (docs/lab.md).
 */
import { createSession, floatTensor } from '../graph/session.ts';
import { bytesOf, peakBytes, productFlop, type Sizes } from '../graph/cost.ts';
import { Graph } from '../graph/graph.ts';
import { gemm } from '../graph/ops/linear.ts';
import { headGraph, layerGraphs, type LayerSpec } from '../models/layerGraphs.ts';
import { trainedParameters } from '../models/trainingGraph.ts';
import type { ActivationPolicy, ExecutorEstimate } from '../types.ts';
import { adapterShape, type ExecutorOptions, parameterFeeds } from './executor.ts';
import { inFirstLayer } from './layerStack.ts';
import { headSpec } from './layerwise.ts';
import { wholeGraphOf } from './wholeGraph.ts';

const FLOAT_BYTES = 4;
/** Gradient and two moments of every trained number. */
const TRAINED_ARRAYS = 3;
const WHOLE_GRAPH_FACTOR = 1.2;
/** The small sessions' allocators grow by doubling and never give back. */
const LAYER_SESSIONS_FACTOR = 2.2;
/** States that are on their way up or down, beside those that are kept. */
const FLOWING_STATES = 3;
/** Share of a step that matrix products take (docs/lab.md). */
const PRODUCT_SHARE = 0.85;
const CALIBRATION_ROWS = 256;
const CALIBRATION_RUNS = 3;

function passSizes({ rowLength, passTokens }: ExecutorOptions): Sizes {
  const batch = Math.ceil(passTokens / rowLength);
  const tokens = batch * rowLength;
  // Every token may be picked; what else a loss has names for (texts, pairs, groups) is a few for each row.
  return new Map(Object.entries({ batch, seq: rowLength, tokens, picked: tokens, '*': 2 * batch }));
}

function layerSpecOf({ model, lora, rowLength }: ExecutorOptions): LayerSpec {
  const modules = new Set([...(lora?.tensors.keys() ?? [])].map(inFirstLayer));
  const quantized = new Map([...(model.quantized ?? [])].map(([name, matrix]) => [inFirstLayer(name), matrix]));
  return {
    config: model.config,
    positions: rowLength,
    quantized,
    ...(lora === undefined ? {} : { adapter: { ...adapterShape(lora), modules } }),
  };
}

/** Every way there is, the fastest first. */
export function estimateExecutors(options: ExecutorOptions): readonly ExecutorEstimate[] {
  const { model, lora, loss } = options;
  const { config } = model;
  const sizes = passSizes(options);
  const feeds = parameterFeeds(options);
  const trained = trainedParameters(config, loss, lora && adapterShape(lora)).reduce(
    (n, name) => n + feeds[name]!.dims.reduce((a, b) => a * b, 1),
    0,
  );
  const held = process.memoryUsage.rss() + TRAINED_ARRAYS * trained * FLOAT_BYTES;
  const { graph } = wholeGraphOf(options, false);
  const head = headGraph(headSpec(options)).graph;
  const state = sizes.get('tokens')! * config.hiddenSize * FLOAT_BYTES;
  const layerwise = (activations: ActivationPolicy): ExecutorEstimate => {
    const { forward, backward, saved } = layerGraphs(layerSpecOf(options), activations);
    const kept = saved.reduce((n, value) => n + bytesOf(value, sizes), state) * config.numLayers;
    const sessions = [forward, backward, head].reduce((n, part) => n + peakBytes(part, sizes), 0);
    const perLayer = productFlop(forward, sizes) + productFlop(backward, sizes);
    return {
      executor: 'layer-wise',
      activations,
      memoryBytes: Math.ceil(held + kept + FLOWING_STATES * state + LAYER_SESSIONS_FACTOR * sessions),
      flopPerPass: config.numLayers * perLayer + productFlop(head, sizes),
    };
  };
  return [
    {
      executor: 'whole-graph',
      memoryBytes: Math.ceil(held + WHOLE_GRAPH_FACTOR * peakBytes(graph, sizes)),
      flopPerPass: productFlop(graph, sizes),
    },
    layerwise('save'),
    layerwise('recompute'),
  ];
}

/** Seconds that so many operations take, by a product of the model's own shape run now. */
export async function secondsFor(flop: number, { model, passTokens, threads }: ExecutorOptions): Promise<number> {
  const { hiddenSize, intermediateSize } = model.config;
  const rows = Math.min(passTokens, CALIBRATION_ROWS);
  const graph = new Graph();
  const x = graph.input('x', [rows, hiddenSize]);
  const w = graph.input('w', [intermediateSize, hiddenSize]);
  graph.output('y', gemm(graph, x, w, { transB: true }));
  const session = await createSession(graph, { threads });
  const feeds = {
    x: floatTensor(new Float32Array(rows * hiddenSize).fill(1), [rows, hiddenSize]),
    w: floatTensor(new Float32Array(intermediateSize * hiddenSize).fill(1), [intermediateSize, hiddenSize]),
  };
  let best = Infinity;
  for (let i = 0; i < CALIBRATION_RUNS; i++) {
    const began = performance.now();
    await session.run(feeds);
    best = Math.min(best, (performance.now() - began) / 1000);
  }
  await session.release();
  return (flop / productFlop(graph, new Map())) * (best / PRODUCT_SHARE);
}
