/** Reward models: pairs to tell apart or texts with scores, as parts of the loop. */
import { EngineError } from '../errors.ts';
import { floatTensor } from '../graph/session.ts';
import { INPUT, type RewardLoss } from '../models/losses.ts';
import type { RewardHead, RewardPair, ScoredText, TokenIds, TrainingHyper } from '../types.ts';
import { assemble, type Batch, type Row } from './batch.ts';
import type { Task } from './task.ts';

type RewardData = readonly RewardPair[] | readonly ScoredText[];

const arePairs = (data: RewardData): data is readonly RewardPair[] => data.every((e) => 'chosen' in e);
const areScored = (data: RewardData): data is readonly ScoredText[] => data.every((e) => 'scores' in e);

function bad(message: string): EngineError {
  return new EngineError('engine.train.bad_example', message);
}

function dimensionIndex(head: RewardHead, name: string | undefined, where: string): number {
  const index = name === undefined ? 0 : head.dimensions.indexOf(name);
  if (index < 0) throw bad(`${where} names the dimension ${name}; the head has ${head.dimensions.join(', ')}`);
  return index;
}

function checkText(ids: TokenIds, prompt: number, where: string, maxLength: number): void {
  if (ids.length === 0) throw bad(`${where} has an empty text`);
  const length = ids.length + prompt;
  if (length > maxLength) {
    throw new EngineError('engine.train.too_long', `${where} has ${length} tokens, more than ${maxLength}`);
  }
}

const finite = (value: number, what: string): number => {
  if (!Number.isFinite(value)) throw bad(`${what} must be a finite number, found ${value}`);
  return value;
};

/** Feeds of a pass without the labels, which no reward needs. */
function rewardFeeds(
  pass: Batch,
  targets: Float32Array,
  weights: Float32Array,
  dims: readonly number[],
): Batch['feeds'] {
  const { [INPUT.labels]: _labels, ...feeds } = pass.feeds;
  return {
    ...feeds,
    [INPUT.targets]: floatTensor(targets, dims),
    [INPUT.rewardWeights]: floatTensor(weights, dims),
  };
}

/** A pick of the state at a column: rewards have no label. */
const stateAt = (column: number): Row['picks'][number] => ({ column, label: 0, weight: 1, slot: 0 });

/** The prompt once, then both texts, each seeing the prompt and itself; the states of their last tokens are picked. */
function rewardPairRow({ prompt, chosen, rejected }: RewardPair): Row {
  const first = prompt.length + chosen.length;
  return {
    segments: [{ ids: prompt }, { ids: chosen, parent: 0 }, { ids: rejected, parent: 0 }],
    picks: [stateAt(first - 1), stateAt(first + rejected.length - 1)],
  };
}

/** The row of one text: its last token's state is picked. */
export function rewardRow(ids: TokenIds): Row {
  return { segments: [{ ids }], picks: [stateAt(ids.length - 1)] };
}

function pairTask(data: readonly RewardPair[], head: RewardHead, hyper: TrainingHyper): Task {
  const n = head.dimensions.length;
  const dimension = data.map((pair, i) => {
    checkText(pair.chosen, pair.prompt.length, `pair ${i}`, hyper.maxLength);
    checkText(pair.rejected, pair.prompt.length, `pair ${i}`, hyper.maxLength);
    finite(pair.margin ?? 0, `the margin of pair ${i}`);
    return dimensionIndex(head, pair.dimension, `pair ${i}`);
  });
  const loss: RewardLoss = { kind: 'reward', from: 'pairs', dimensions: n, centre: hyper.reward?.centre ?? 0 };
  return {
    loss,
    lengths: Int32Array.from(data, (e) => e.prompt.length + e.chosen.length + e.rejected.length),
    shares: new Float64Array(data.length).fill(1),
    *tokenArrays() {
      for (const [i, e] of data.entries()) {
        yield e.prompt;
        yield e.chosen;
        yield e.rejected;
        yield [dimension[i]!, e.margin ?? 0];
      }
    },
    async pass(batch, divisor) {
      const indices = batch.flat();
      const pass = assemble(indices.map((index) => rewardPairRow(data[index]!)));
      const targets = new Float32Array(indices.length * n);
      const weights = new Float32Array(indices.length * n);
      indices.forEach((index, p) => {
        targets[p * n + dimension[index]!] = data[index]!.margin ?? 0;
        weights[p * n + dimension[index]!] = 1 / divisor;
      });
      return {
        feeds: rewardFeeds(pass, targets, weights, [indices.length, n]),
        tokens: pass.tokens,
        measure({ rewards = new Float32Array() }) {
          const differences = indices.map((index, p) => {
            const d = dimension[index]!;
            return rewards[2 * p * n + d]! - rewards[(2 * p + 1) * n + d]!;
          });
          return { rewardMargin: differences, accuracy: differences.map((d) => (d > 0 ? 1 : 0)) };
        },
      };
    },
  };
}

function scoreTask(data: readonly ScoredText[], head: RewardHead, hyper: TrainingHyper): Task {
  const n = head.dimensions.length;
  const scores = data.map(({ ids, scores: given }, i) => {
    checkText(ids, 0, `example ${i}`, hyper.maxLength);
    const entries = Object.entries(given).map(([name, score]): [number, number] => [
      dimensionIndex(head, name, `example ${i}`),
      finite(score, `the score ${name} of example ${i}`),
    ]);
    if (entries.length === 0) throw bad(`example ${i} has no scores`);
    return entries;
  });
  return {
    loss: { kind: 'reward', from: 'scores', dimensions: n, centre: 0 },
    lengths: Int32Array.from(data, (e) => e.ids.length),
    shares: Float64Array.from(scores, (entries) => entries.length),
    *tokenArrays() {
      for (const [i, e] of data.entries()) {
        yield e.ids;
        yield scores[i]!.flat();
      }
    },
    async pass(batch, divisor) {
      const indices = batch.flat();
      const pass = assemble(indices.map((index) => rewardRow(data[index]!.ids)));
      const targets = new Float32Array(indices.length * n);
      const weights = new Float32Array(indices.length * n);
      indices.forEach((index, row) => {
        for (const [d, score] of scores[index]!) {
          targets[row * n + d] = score;
          weights[row * n + d] = 1 / divisor;
        }
      });
      return { feeds: rewardFeeds(pass, targets, weights, [indices.length, n]), tokens: pass.tokens };
    },
  };
}

/**
 * The task of pairs or of scored texts: a loss of another kind for each, so data and evaluation must agree.
 * @throws EngineError `engine.train.bad_example` or `engine.train.too_long`, naming the example
 */
export function rewardTask(data: RewardData, head: RewardHead, hyper: TrainingHyper): Task {
  if (arePairs(data)) return pairTask(data, head, hyper);
  if (areScored(data)) return scoreTask(data, head, hyper);
  throw bad('the examples of a reward model are all pairs (chosen, rejected) or all texts with scores');
}
