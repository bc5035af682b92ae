/** What a training task adds to the common loop: rows, loss inputs and what is reported. */
import { EngineError } from '../errors.ts';
import { floatTensor } from '../graph/session.ts';
import type { Feeds } from '../graph/session.ts';
import { INPUT, type LossSpec } from '../models/losses.ts';
import type { DpoExample, DpoHyper, SftExample, TokenIds, TrainingHyper } from '../types.ts';
import { assemble, type Pick, pickWeights, type Row, type Segment } from './batch.ts';
import type { PlannedBatch } from './plan.ts';

export interface Task {
  readonly loss: LossSpec;
  /** Tokens of each example in its row. */
  readonly lengths: Int32Array;
  /** What each example adds to the divisor of its step's loss. */
  readonly shares: Float64Array;
  /** Every token array that the result depends on, for the fingerprint of a saved state. */
  tokenArrays(): Iterable<TokenIds | Float32Array | readonly number[]>;
  /** Inputs of one pass, for a graph that makes logits in `chunks` parts. Its loss is divided by `divisor`. */
  pass(batch: PlannedBatch, divisor: number, chunks: number): { readonly feeds: Feeds; readonly tokens: number };
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** Supervised texts. Cut at `maxLength`. @throws EngineError `engine.train.no_targets` when no token counts. */
export function sftTask(data: readonly SftExample[], hyper: TrainingHyper): Task {
  const lengths = Int32Array.from(data, (e) => Math.min(e.ids.length, hyper.maxLength));
  const shares = Float64Array.from(data, (e, i) => {
    if (e.lossWeights.length !== e.ids.length) {
      throw new EngineError('engine.train.bad_example', `example ${i} has not one loss weight for each token`);
    }
    let share = 0;
    for (let t = 1; t < lengths[i]!; t++) share += e.lossWeights[t]!;
    return share;
  });
  if (!shares.some((s) => s > 0))
    throw new EngineError('engine.train.no_targets', 'no token has a loss weight above 0');
  const row = (indices: readonly number[]): Row => {
    const segments: Segment[] = [];
    const picks: Pick[] = [];
    let start = 0;
    for (const index of indices) {
      const { ids, lossWeights } = data[index]!;
      const length = lengths[index]!;
      segments.push({ ids: length < ids.length ? ids.slice(0, length) : ids });
      for (let t = 1; t < length; t++) {
        const weight = lossWeights[t]!;
        if (weight !== 0) picks.push({ column: start + t - 1, label: ids[t]!, weight, slot: 0 });
      }
      start += length;
    }
    return { segments, picks };
  };
  return {
    loss: { kind: 'sft' },
    lengths,
    shares,
    *tokenArrays() {
      for (const e of data) {
        yield e.ids;
        yield e.lossWeights;
      }
    },
    pass(batch, divisor, chunks) {
      const pass = assemble(batch.map(row), chunks);
      return { feeds: { ...pass.feeds, ...pickWeights(pass, 1, 1 / divisor) }, tokens: pass.tokens };
    },
  };
}

/**
 * The row of one pair: the prompt once, then both continuations, each seeing the prompt and itself. The state at the
 * prompt's last token predicts the first token of both. Slots are 2 `pair` (chosen) and 2 `pair` + 1 (rejected).
 */
export function pairRow(example: DpoExample, pair: number): Row {
  const picks: Pick[] = [];
  let start = example.prompt.length;
  [example.chosen, example.rejected].forEach((ids, side) => {
    for (let t = 0; t < ids.length; t++) {
      const column = t === 0 ? example.prompt.length - 1 : start + t - 1;
      picks.push({ column, label: ids[t]!, weight: 1, slot: 2 * pair + side });
    }
    start += ids.length;
  });
  return {
    segments: [{ ids: example.prompt }, { ids: example.chosen, parent: 0 }, { ids: example.rejected, parent: 0 }],
    picks,
  };
}

/** @throws EngineError `engine.train.bad_example` or `engine.train.too_long`, naming the example. */
export function checkPairs(data: readonly DpoExample[], maxLength: number): void {
  data.forEach(({ prompt, chosen, rejected }, i) => {
    if (prompt.length === 0 || chosen.length === 0 || rejected.length === 0) {
      throw new EngineError('engine.train.bad_example', `pair ${i} has an empty prompt, chosen or rejected text`);
    }
    const longest = prompt.length + Math.max(chosen.length, rejected.length);
    if (longest > maxLength) {
      throw new EngineError('engine.train.too_long', `pair ${i} has ${longest} tokens, more than ${maxLength}`);
    }
  });
}

/** Log-probability sums of the two texts of each pair from the log-probabilities of its row's picks. */
export function pairDifference(example: DpoExample, logProbs: Float32Array): number {
  let difference = 0;
  logProbs.forEach((value, i) => {
    difference += i < example.chosen.length ? value : -value;
  });
  return difference;
}

/** NLL divisor: given, or the mean length of the chosen texts. */
export function dpoLossSpec(data: readonly DpoExample[], dpo: DpoHyper = {}): LossSpec {
  const divisor = dpo.nllDivisor ?? mean(data.map((e) => e.chosen.length));
  return {
    kind: 'dpo',
    beta: dpo.beta ?? 0.1,
    labelSmoothing: dpo.labelSmoothing ?? 0,
    nllFactor: (dpo.nllWeight ?? 0) / divisor,
  };
}

/** Preference pairs; `reference[i]` is the reference's log p(chosen) - log p(rejected) of pair i. */
export function dpoTask(data: readonly DpoExample[], loss: LossSpec, reference: ArrayLike<number>): Task {
  return {
    loss,
    lengths: Int32Array.from(data, (e) => e.prompt.length + e.chosen.length + e.rejected.length),
    shares: new Float64Array(data.length).fill(1),
    *tokenArrays() {
      for (const e of data) {
        yield e.prompt;
        yield e.chosen;
        yield e.rejected;
      }
    },
    pass(batch, divisor, chunks) {
      const indices = batch.flat();
      const rows = indices.map((index, pair) => pairRow(data[index]!, pair));
      const pass = assemble(rows, chunks);
      const pairs = [indices.length, 1];
      const references = Float32Array.from(indices, (index) => reference[index]!);
      return {
        tokens: pass.tokens,
        feeds: {
          ...pass.feeds,
          ...pickWeights(pass, 2 * indices.length, 1),
          [INPUT.reference]: floatTensor(references, pairs),
          [INPUT.pairWeights]: floatTensor(new Float32Array(indices.length).fill(1 / divisor), pairs),
        },
      };
    },
  };
}
