/** Reverse-mode differentiation over a graph's tape. */
import type { Graph, Value } from './graph.ts';

/**
 * Adds the nodes that compute d loss / d w for each `w` in `wrt` (same shapes). `loss` is a scalar, of shape `[]` or with
 * all dimensions 1. Only operations on a path from a wanted value to the loss get gradient nodes.
 *
 * @throws when the loss does not depend on one of the values through recorded operations.
 */
export function gradients(graph: Graph, loss: Value, wrt: readonly Value[]): Value[] {
  if (loss.dims.some((d) => d !== 1)) throw new Error(`the loss must be a scalar, it is [${loss.dims.join()}]`);
  return pullback(graph, loss, graph.constant(loss.dims as number[], Float32Array.of(1)), wrt);
}

/**
 * Adds the nodes that carry a gradient back through a part of a larger computation: from `cotangent`, the gradient of
 * the loss with respect to `value` (same shape), to the gradients with respect to each `w` in `wrt`.
 *
 * @throws when `value` does not depend on one of the values through recorded operations.
 */
export function pullback(graph: Graph, value: Value, cotangent: Value, wrt: readonly Value[]): Value[] {
  const tape = [...graph.tape];
  const wanted = new Set(wrt.map((v) => v.name));
  for (const entry of tape) {
    if (entry.inputs.some((v) => wanted.has(v.name))) wanted.add(entry.output.name);
  }
  const adjoints = new Map<string, Value>();
  adjoints.set(value.name, cotangent);
  for (const entry of tape.toReversed()) {
    const outputGradient = adjoints.get(entry.output.name);
    if (outputGradient === undefined || !entry.inputs.some((v) => wanted.has(v.name))) continue;
    const contributions = entry.backward(outputGradient);
    entry.inputs.forEach((input, i) => {
      const contribution = contributions[i];
      if (contribution === undefined || !wanted.has(input.name)) return;
      adjoints.set(input.name, contribution(adjoints.get(input.name)));
    });
  }
  return wrt.map((v) => {
    const gradient = adjoints.get(v.name);
    if (gradient === undefined) throw new Error(`${value.name} does not depend on ${v.name}`);
    return gradient;
  });
}
