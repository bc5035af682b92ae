/** Row selection and the log-probability of chosen tokens. */
import { type Dim, type Graph, int, type Value } from '../graph.ts';
import { added } from './arithmetic.ts';
import { shapeOf } from './shape.ts';

/** `base` with `rows` added at row numbers `index: [n]`; a row number may repeat. */
function addRows(graph: Graph, base: Value, index: Value, rows: Value): Value {
  const column = graph.node('Unsqueeze', [index, graph.int64s([1])], [index.dims[0]!, 1], { type: 'int64' });
  return graph.node('ScatterND', [base, column, rows], base.dims, {
    attributes: { reduction: { kind: 'string', value: 'add' } },
  });
}

/** Rows of `table: [rows, d]` at `index: int64 [n]`, as `[n, d]`. */
export function rowsAt(graph: Graph, table: Value, index: Value): Value {
  const dims: Dim[] = [index.dims[0]!, ...table.dims.slice(1)];
  const y = graph.node('Gather', [table, index], dims, { attributes: { axis: int(0) } });
  return graph.record([table], y, (dy) => [
    (sum) => {
      const base = sum ?? graph.node('Expand', [graph.scalar(0), shapeOf(graph, table)], table.dims);
      return addRows(graph, base, index, dy);
    },
  ]);
}

/**
 * log softmax(hidden table^T)[label] for each row: `hidden: [n, d]`, `table: [vocab, d]`, `labels: int64 [n]`, result
 * `[n, 1]`.
 *
 * With p the softmax: d hidden = dy (table[label] - p table), and d table = -p^T (dy hidden) + the rows dy hidden added
 * at the labels. So no one-hot matrix and no gradient of shape [n, vocab] is ever made.
 */
export function labelLogProbs(graph: Graph, hidden: Value, table: Value, labels: Value): Value {
  const n = hidden.dims[0]!;
  const vocab = table.dims[0]!;
  const logits = graph.node('Gemm', [hidden, table], [n, vocab], { attributes: { transB: int(1) } });
  const logSoftmax = graph.node('LogSoftmax', [logits], [n, vocab], { attributes: { axis: int(-1) } });
  const column = graph.node('Unsqueeze', [labels, graph.int64s([1])], [n, 1], { type: 'int64' });
  const y = graph.node('GatherElements', [logSoftmax, column], [n, 1], { attributes: { axis: int(1) } });
  return graph.record([hidden, table], y, (dy) => {
    // The runtime's softmax is vectorised, its exponential is not: again from the logits is cheaper than exp(logSoftmax).
    let probabilities: Value | undefined;
    const p = (): Value =>
      (probabilities ??= graph.node('Softmax', [logits], [n, vocab], { attributes: { axis: int(-1) } }));
    return [
      added(graph, () => {
        const expected = graph.node('Gemm', [p(), table], hidden.dims);
        const labelRows = graph.node('Gather', [table, labels], hidden.dims, { attributes: { axis: int(0) } });
        const direction = graph.node('Sub', [labelRows, expected], hidden.dims);
        return graph.node('Mul', [direction, dy], hidden.dims);
      }),
      (sum) => {
        const weighted = graph.node('Mul', [hidden, dy], hidden.dims);
        const negative = graph.node('Neg', [weighted], weighted.dims);
        const inputs = sum === undefined ? [p(), negative] : [p(), negative, sum];
        const spread = graph.node('Gemm', inputs, table.dims, { attributes: { transA: int(1) } });
        return addRows(graph, spread, labels, weighted);
      },
    ];
  });
}

/**
 * `labelLogProbs` for a table that is not trained and too large to hold [n, vocab] at once: rows go through in `chunks`
 * equal parts (n must be a multiple). With `differentiable`, each part's gradient direction, table[label] - p table, is
 * made while its logits are there, so only [n, d] is kept for the backward pass.
 */
export function chunkedLabelLogProbs(
  graph: Graph,
  hidden: Value,
  table: Value,
  labels: Value,
  options: { readonly chunks: number; readonly differentiable: boolean },
): Value {
  const { chunks, differentiable } = options;
  const [n, d] = hidden.dims as [Dim, Dim];
  const rows = Array.from({ length: chunks }, (): Dim => `${n}/${chunks}`);
  const split = { axis: int(0), num_outputs: int(chunks) };
  const parts = graph.nodes(
    'Split',
    [hidden],
    rows.map((r) => [r, d]),
    { attributes: split },
  );
  const labelParts = graph.nodes(
    'Split',
    [labels],
    rows.map((r) => [r]),
    { attributes: split, type: 'int64' },
  );
  const values: Value[] = [];
  const directions: Value[] = [];
  let turn: Value | undefined;
  parts.forEach((part, i) => {
    const label = labelParts[i]!;
    const m = rows[i]!;
    const vocab = table.dims[0]!;
    const inputs = turn === undefined ? [part, table] : [part, table, turn];
    const logits = graph.node('Gemm', inputs, [m, vocab], { attributes: { transB: int(1) } });
    const logSoftmax = graph.node('LogSoftmax', [logits], [m, vocab], { attributes: { axis: int(-1) } });
    const column = graph.node('Unsqueeze', [label, graph.int64s([1])], [m, 1], { type: 'int64' });
    const value = graph.node('GatherElements', [logSoftmax, column], [m, 1], { attributes: { axis: int(1) } });
    values.push(value);
    let last = value;
    if (differentiable) {
      const p = graph.node('Softmax', [logits], [m, vocab], { attributes: { axis: int(-1) } });
      const labelRows = graph.node('Gather', [table, label], [m, d], { attributes: { axis: int(0) } });
      const direction = graph.node('Sub', [labelRows, graph.node('Gemm', [p, table], [m, d])], [m, d]);
      directions.push(direction);
      last = graph.node('Add', [direction, value], [m, d]);
    }
    // Nothing else orders the parts: a zero made of all that this part's logits are read for, added to the next part's
    // logits, keeps the scheduler from computing all logits first, or from coming back to them last.
    const axes = graph.int64s([0, 1]);
    const total = graph.node('ReduceSum', [last, axes], [], { attributes: { keepdims: int(0) } });
    turn = graph.node('Mul', [total, graph.scalar(0)], []);
  });
  const y = graph.node('Concat', values, [n, 1], { attributes: { axis: int(0) } });
  if (!differentiable) return y;
  const direction = graph.node('Concat', directions, [n, d], { attributes: { axis: int(0) } });
  return graph.record([hidden], y, (dy) => [added(graph, () => graph.node('Mul', [direction, dy], [n, d]))]);
}
