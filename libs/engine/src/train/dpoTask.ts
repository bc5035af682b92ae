/** Preference pairs: DPO's part of the loop. */
import { EngineError } from '../errors.ts';
import { floatTensor } from '../graph/session.ts';
import { INPUT, type LossSpec } from '../models/losses.ts';
import type { DpoExample, DpoHyper } from '../types.ts';
import { assemble, type Pick, pickWeights, type Row } from './batch.ts';
import { mean, type Task } from './task.ts';

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

/** Difference of the two texts' log-probabilities from the log-probabilities of their row's picks. */
function pairDifference(example: DpoExample, logProbs: Float32Array): number {
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

/** Preference pairs; the reference is log p(chosen) - log p(rejected) of each. */
export function dpoTask(data: readonly DpoExample[], loss: LossSpec): Task {
  const values = new Float32Array(data.length);
  return {
    loss,
    lengths: Int32Array.from(data, (e) => e.prompt.length + e.chosen.length + e.rejected.length),
    shares: new Float64Array(data.length).fill(1),
    reference: {
      values,
      rows: data.map((example) => pairRow(example, 0)),
      fill: (logProbs) => data.forEach((example, i) => (values[i] = pairDifference(example, logProbs[i]!))),
    },
    *tokenArrays() {
      for (const e of data) {
        yield e.prompt;
        yield e.chosen;
        yield e.rejected;
      }
    },
    async pass(batch, divisor, { chunks }) {
      const indices = batch.flat();
      const rows = indices.map((index, pair) => pairRow(data[index]!, pair));
      const pass = assemble(rows, chunks);
      const pairs = [indices.length, 1];
      const references = Float32Array.from(indices, (index) => values[index]!);
      return {
        tokens: pass.tokens,
        feeds: {
          ...pass.feeds,
          ...pickWeights(pass, 2 * indices.length, 1),
          [INPUT.reference]: floatTensor(references, pairs),
          [INPUT.pairWeights]: floatTensor(new Float32Array(indices.length).fill(1 / divisor), pairs),
        },
        measure({ margins = new Float32Array() }) {
          return { rewardMargin: [...margins], accuracy: Array.from(margins, (m) => (m > 0 ? 1 : 0)) };
        },
      };
    },
  };
}
