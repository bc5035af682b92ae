/**
 * From one row of logits to a token. The steps and their order are those of Transformers' generation: repetition penalty,
 * temperature, top-k, top-p, min-p, then a draw. Arithmetic is in double precision and free of the platform's libm, so a
 * seed gives the same token on every machine that gives the same logits.
 */
import type { Random } from '../random.ts';

export interface SamplingSettings {
  /** 0 takes the likeliest token. */
  readonly temperature: number;
  /** Keep the smallest set of tokens with at least this probability; 1 keeps all (https://arxiv.org/abs/1904.09751). */
  readonly topP: number;
  /** Keep this many likeliest tokens and what ties with the last; 0 keeps all. */
  readonly topK: number;
  /** Drop tokens below this share of the likeliest one's probability; 0 keeps all (https://arxiv.org/abs/2407.01082). */
  readonly minP: number;
  /** Divides positive and multiplies negative logits of tokens seen so far; 1 is off (https://arxiv.org/abs/1909.05858). */
  readonly repetitionPenalty: number;
}

/** Tokens that may be drawn, with probabilities that sum to 1. */
export interface Candidates {
  readonly tokens: Int32Array;
  readonly probabilities: Float64Array;
}

/** log sum exp of a row. */
function logSumExp(logits: Float32Array): number {
  let max = -Infinity;
  for (const x of logits) if (x > max) max = x;
  let sum = 0;
  for (const x of logits) sum += Math.exp(x - max);
  return max + Math.log(sum);
}

/** Log-probability of `token` under the model itself: no penalty, temperature or cut. */
export function tokenLogprob(logits: Float32Array, token: number): number {
  return logits[token]! - logSumExp(logits);
}

/** The `count` likeliest tokens under the model itself, likeliest first; ties by token id. */
export function topLogprobs(logits: Float32Array, count: number): { token: number; logprob: number }[] {
  const total = logSumExp(logits);
  const threshold = kthLargest(logits, Math.min(count, logits.length));
  const best: { token: number; logprob: number }[] = [];
  logits.forEach((x, token) => {
    if (x >= threshold) best.push({ token, logprob: x - total });
  });
  return best.toSorted((a, b) => b.logprob - a.logprob || a.token - b.token).slice(0, count);
}

/** The k-th largest value (k from 1), by a heap of the k largest so far. */
function kthLargest(values: ArrayLike<number>, k: number): number {
  const heap = new Float64Array(k).fill(-Infinity);
  for (let i = 0; i < values.length; i++) {
    const x = values[i]!;
    if (!(x > heap[0]!)) continue;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= k) break;
      if (child + 1 < k && heap[child + 1]! < heap[child]!) child++;
      if (heap[child]! >= x) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = x;
  }
  return heap[0]!;
}

function penalised(logits: Float32Array, seen: Iterable<number>, penalty: number): Float32Array {
  if (penalty === 1) return logits;
  const out = logits.slice();
  for (const token of new Set(seen)) out[token] = out[token]! > 0 ? out[token]! / penalty : out[token]! * penalty;
  return out;
}

function argmax(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

function normalise(tokens: number[], weights: number[]): Candidates {
  let sum = 0;
  for (const w of weights) sum += w;
  return { tokens: Int32Array.from(tokens), probabilities: Float64Array.from(weights, (w) => w / sum) };
}

function keepIf(from: Candidates, keep: (probability: number, index: number) => boolean): Candidates {
  const tokens: number[] = [];
  const weights: number[] = [];
  from.probabilities.forEach((p, i) => {
    if (!keep(p, i)) return;
    tokens.push(from.tokens[i]!);
    weights.push(p);
  });
  return normalise(tokens, weights);
}

/** The nucleus. Only tokens above (1 - topP) / n need sorting: the others together weigh less than 1 - topP. */
function nucleus(from: Candidates, topP: number): Candidates {
  const { probabilities } = from;
  const floor = (1 - topP) / probabilities.length;
  const order: number[] = [];
  probabilities.forEach((p, i) => {
    if (p > floor) order.push(i);
  });
  order.sort((a, b) => probabilities[b]! - probabilities[a]! || a - b);
  const kept = new Set<number>();
  let mass = 0;
  for (const i of order) {
    if (kept.size > 0 && mass >= topP) break;
    kept.add(i);
    mass += probabilities[i]!;
  }
  return keepIf(from, (_, i) => kept.has(i));
}

/**
 * The distribution a token is drawn from. `logits: [vocab]`.
 * @param seen prompt and generated tokens, for the repetition penalty
 */
export function candidates(logits: Float32Array, seen: Iterable<number>, settings: SamplingSettings): Candidates {
  const scores = penalised(logits, seen, settings.repetitionPenalty);
  if (settings.temperature === 0) return { tokens: Int32Array.of(argmax(scores)), probabilities: Float64Array.of(1) };
  const threshold = settings.topK > 0 && settings.topK < scores.length ? kthLargest(scores, settings.topK) : -Infinity;
  const max = scores[argmax(scores)]!;
  const tokens: number[] = [];
  const weights: number[] = [];
  scores.forEach((x, token) => {
    if (x < threshold) return;
    tokens.push(token);
    weights.push(Math.exp((x - max) / settings.temperature));
  });
  let kept = normalise(tokens, weights);
  if (settings.topP < 1) kept = nucleus(kept, settings.topP);
  if (settings.minP > 0) {
    const floor = settings.minP * kept.probabilities.reduce((most, p) => Math.max(most, p), 0);
    kept = keepIf(kept, (p) => p >= floor);
  }
  return kept;
}

/** Draws a token; takes exactly one number from `random`, and none when only one token is left. */
export function draw(from: Candidates, random: Random): number {
  const { tokens, probabilities } = from;
  if (tokens.length === 1) return tokens[0]!;
  const target = random();
  let mass = 0;
  for (let i = 0; i < tokens.length; i++) {
    mass += probabilities[i]!;
    if (target < mass) return tokens[i]!;
  }
  // Rounding can leave the sum a little under 1.
  return tokens.at(-1)!;
}
