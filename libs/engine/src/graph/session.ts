/** Running a graph on stock onnxruntime-node. `run` blocks the thread it is called on: keep it out of servers. */
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import type { Graph } from './graph.ts';

export type { Tensor as OrtTensor } from 'onnxruntime-node';

export interface SessionSettings {
  readonly threads: number;
}

export type Feeds = Record<string, OrtTensor>;

/** Wraps a float array without copying it: later writes to `data` are seen by later runs. */
export function floatTensor(data: Float32Array, dims: readonly number[]): OrtTensor {
  return new OrtTensor('float32', data, dims);
}

export function int64Tensor(data: BigInt64Array, dims: readonly number[]): OrtTensor {
  return new OrtTensor('int64', data, dims);
}

export function uint16Tensor(data: Uint16Array, dims: readonly number[]): OrtTensor {
  return new OrtTensor('uint16', data, dims);
}

/** The values of a float tensor. @throws when it is of another type. */
export function floatData(tensor: OrtTensor): Float32Array {
  if (!(tensor.data instanceof Float32Array)) throw new Error(`the tensor is of type ${tensor.type}`);
  return tensor.data;
}

/** Reads a float output. @throws when the output is absent or of another type. */
export function floatOutput(outputs: Readonly<Record<string, OrtTensor>>, name: string): Float32Array {
  const data = outputs[name]?.data;
  if (!(data instanceof Float32Array)) throw new Error(`the session gave no float output named ${name}`);
  return data;
}

/** Compiles a graph. One session is one compiled graph; release it with `release()`. */
export function createSession(graph: Graph, settings: SessionSettings): Promise<InferenceSession> {
  // ONNX Runtime sends usage data to its maker unless told not to; it looks when the first session of a process is made.
  process.env.ORT_DISABLE_TELEMETRY ??= '1';
  return InferenceSession.create(graph.toBytes(), {
    executionProviders: ['cpu'],
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    intraOpNumThreads: settings.threads,
    interOpNumThreads: 1,
    // A pattern is one allocation for a whole pass: measured no faster at nano's size, 1.4 times slower (page faults) and
    // 0.9 GB larger at 135M parameters.
    enableMemPattern: false,
    logSeverityLevel: 3,
    // Spinning workers starve whatever else shares the cores, and halve the engine's own speed when something does.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  });
}
