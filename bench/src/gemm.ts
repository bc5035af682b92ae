import { Graph } from '@tuneloop/engine/graph/graph';
import { gemm } from '@tuneloop/engine/graph/ops/linear';
import { createSession, floatTensor } from '@tuneloop/engine/graph/session';

/** Repeated until this much work is done: enough to be measured, little enough for large shapes. */
const TARGET_FLOP = 2e10;
const MIN_REPEATS = 3;

/** Seconds of one product `[rows, inputs] x [out, inputs]^T` on the runtime that trains. */
export async function gemmSeconds(rows: number, out: number, inputs: number, threads: number): Promise<number> {
  const graph = new Graph();
  const x = graph.input('x', [rows, inputs]);
  const w = graph.input('w', [out, inputs]);
  graph.output('y', gemm(graph, x, w, { transB: true }));
  const session = await createSession(graph, { threads });
  const feeds = {
    x: floatTensor(new Float32Array(rows * inputs).fill(0.5), [rows, inputs]),
    w: floatTensor(new Float32Array(out * inputs).fill(0.5), [out, inputs]),
  };
  await session.run(feeds);
  const repeats = Math.max(MIN_REPEATS, Math.round(TARGET_FLOP / (2 * rows * out * inputs)));
  const started = performance.now();
  for (let i = 0; i < repeats; i++) await session.run(feeds);
  const seconds = (performance.now() - started) / 1000 / repeats;
  await session.release();
  return seconds;
}
