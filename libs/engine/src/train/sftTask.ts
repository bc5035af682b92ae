/** Supervised texts: SFT's part of the loop. */
import { EngineError } from '../errors.ts';
import type { SftExample, TrainingHyper } from '../types.ts';
import { assemble, type Pick, pickWeights, type Row, type Segment } from './batch.ts';
import type { Task } from './task.ts';

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
    async pass(batch, divisor, { chunks }) {
      const pass = assemble(batch.map(row), chunks);
      return { feeds: { ...pass.feeds, ...pickWeights(pass, 1, 1 / divisor) }, tokens: pass.tokens };
    },
  };
}
