/** Texts that are wanted or not: KTO's part of the loop. */
import { EngineError } from '../errors.ts';
import { floatTensor } from '../graph/session.ts';
import { INPUT, type LossSpec } from '../models/losses.ts';
import type { KtoExample, KtoHyper, TokenIds, TrainingHyper } from '../types.ts';
import { assemble, type Pick, pickWeights, type Row } from './batch.ts';
import { planEpoch, type PlannedBatch } from './plan.ts';
import { mean, type Pass, type PassRunner, type Task } from './task.ts';

/** @throws EngineError `engine.train.bad_hyper`, `engine.train.bad_example` or `engine.train.too_long` */
export function checkKto(data: readonly KtoExample[], hyper: TrainingHyper): void {
  if (hyper.batchSize < 2) {
    throw new EngineError('engine.train.bad_hyper', 'KTO needs a batchSize of at least 2: its KL term compares texts');
  }
  if (data.length < 2) throw new EngineError('engine.train.bad_example', 'KTO needs at least two examples');
  data.forEach(({ prompt, completion }, i) => {
    if (prompt.length === 0 || completion.length === 0) {
      throw new EngineError('engine.train.bad_example', `example ${i} has an empty prompt or completion`);
    }
    const length = prompt.length + completion.length;
    if (length > hyper.maxLength) {
      throw new EngineError('engine.train.too_long', `example ${i} has ${length} tokens, more than ${hyper.maxLength}`);
    }
  });
}

/**
 * Weights of the two kinds. By default the rarer kind is weighed up so that both count the same in sum, the middle of what
 * the paper's equation 8 allows.
 */
export function ktoWeights(
  data: readonly KtoExample[],
  kto: KtoHyper = {},
): { desirable: number; undesirable: number } {
  const wanted = data.filter((e) => e.desirable).length;
  const unwanted = data.length - wanted;
  const balanced = wanted > 0 && unwanted > 0;
  return {
    desirable: kto.desirableWeight ?? (balanced ? Math.max(1, unwanted / wanted) : 1),
    undesirable: kto.undesirableWeight ?? (balanced ? Math.max(1, wanted / unwanted) : 1),
  };
}

/**
 * Whose completion stands for a foreign one after each prompt. Completions are rotated by one within the batches of the
 * first epoch and stay so paired in later ones, so that the reference is computed once. A batch of one takes the next
 * example of the data.
 */
function partners(lengths: Int32Array, hyper: TrainingHyper): Int32Array {
  const partner = new Int32Array(lengths.length);
  for (const batch of planEpoch({ lengths, batchSize: hyper.batchSize, seed: hyper.seed }, 0)) {
    const indices = batch.flat();
    indices.forEach((index, i) => {
      partner[index] = indices.length === 1 ? (index + 1) % lengths.length : indices.at(i - 1)!;
    });
  }
  return partner;
}

function textRow(prompt: TokenIds, completion: TokenIds, slot: number): Row {
  const picks: Pick[] = [];
  for (let t = 0; t < completion.length; t++) {
    picks.push({ column: prompt.length + t - 1, label: completion[t]!, weight: 1, slot });
  }
  return { segments: [{ ids: prompt }, { ids: completion, parent: 0 }], picks };
}

const total = (values: ArrayLike<number>): number => Array.from(values).reduce((a, b) => a + b, 0);

/**
 * Texts with a verdict. The reference is log p of each completion after its own prompt, then of its partner's.
 *
 * @param weights what `ktoWeights` gave for the training data
 */
export function ktoTask(
  data: readonly KtoExample[],
  hyper: TrainingHyper,
  weights: { readonly desirable: number; readonly undesirable: number },
): Task {
  const count = data.length;
  const loss = { kind: 'kto', beta: hyper.kto?.beta ?? 0.1 } satisfies LossSpec;
  const lengths = Int32Array.from(data, (e) => e.prompt.length + e.completion.length);
  const partner = partners(lengths, hyper);
  const values = new Float32Array(2 * count);
  const ownRow = (index: number, slot: number): Row => textRow(data[index]!.prompt, data[index]!.completion, slot);
  const foreignRow = (index: number, slot: number): Row => {
    const { prompt } = data[index]!;
    // Never empty: a prompt is shorter than its own text, which fits.
    return textRow(prompt, data[partner[index]!]!.completion.slice(0, hyper.maxLength - prompt.length), slot);
  };
  const feedsOf = (rows: readonly Row[], chunks: number, given: KtoInputs): Pass => {
    const pass = assemble(rows, chunks);
    const dims = [rows.length, 1];
    return {
      tokens: pass.tokens,
      feeds: {
        ...pass.feeds,
        ...pickWeights(pass, rows.length, 1),
        [INPUT.reference]: floatTensor(given.reference, dims),
        [INPUT.divergence]: floatTensor(Float32Array.of(given.divergence), [1, 1]),
        [INPUT.signs]: floatTensor(given.signs, dims),
        [INPUT.rowWeights]: floatTensor(given.rowWeights, dims),
      },
    };
  };
  /** The mean log-ratio of foreign completions, at least 0: what the policy gained on texts that nobody judged. */
  const divergenceOf = async (indices: readonly number[], executor: PassRunner) => {
    const zeros = new Float32Array(indices.length);
    const nothing = { reference: zeros, divergence: 0, signs: zeros, rowWeights: zeros };
    const { feeds, tokens } = feedsOf(indices.map(foreignRow), executor.chunks, nothing);
    const { scores = zeros } = await executor.lossPass(feeds);
    const ratios = indices.map((index, i) => scores[i]! - values[count + index]!);
    return { divergence: Math.max(0, mean(ratios)), tokens };
  };
  return {
    loss,
    lengths,
    shares: new Float64Array(count).fill(1),
    reference: {
      values,
      rows: [...data.map((_, i) => ownRow(i, 0)), ...data.map((_, i) => foreignRow(i, 0))],
      fill: (logProbs) => logProbs.forEach((row, i) => (values[i] = total(row))),
    },
    *tokenArrays() {
      for (const e of data) {
        yield e.prompt;
        yield e.completion;
        yield [e.desirable ? 1 : 0];
      }
    },
    async pass(batch: PlannedBatch, divisor, executor) {
      const indices = batch.flat();
      const { divergence, tokens } = await divergenceOf(indices, executor);
      const desirable = indices.map((index) => data[index]!.desirable);
      const reference = Float32Array.from(indices, (index) => values[index]!);
      const pass = feedsOf(indices.map(ownRow), executor.chunks, {
        reference,
        divergence,
        signs: Float32Array.from(desirable, (d) => (d ? 1 : -1)),
        rowWeights: Float32Array.from(desirable, (d) => (d ? weights.desirable : weights.undesirable) / divisor),
      });
      return {
        feeds: pass.feeds,
        tokens: pass.tokens + tokens,
        measure({ scores = new Float32Array() }) {
          const ratios = Array.from(scores, (score, i) => score - reference[i]!);
          const rewards = ratios.map((ratio) => loss.beta * ratio);
          return {
            divergence: [divergence],
            accuracy: ratios.map((ratio, i) => (ratio > divergence === desirable[i] ? 1 : 0)),
            desirableReward: rewards.filter((_, i) => desirable[i]),
            undesirableReward: rewards.filter((_, i) => !desirable[i]),
          };
        },
      };
    },
  };
}

interface KtoInputs {
  readonly reference: Float32Array;
  readonly divergence: number;
  readonly signs: Float32Array;
  readonly rowWeights: Float32Array;
}
