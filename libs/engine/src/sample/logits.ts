/**
 * From one row of logits to a token. The steps and their order are those of Transformers' generation: repetition penalty,
 * temperature, top-k, top-p, min-p, then a draw. Arithmetic is in double precision and free of the platform's libm, so a
 * seed gives the same token on every machine that gives the same logits.
 */
import type { Random } from '../random.ts';
import { hasToken, type TokenSet } from './constraint/vocabulary.ts';

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

/** What a token is drawn from: weights by token id, 0 for those cut off; `mass` is their sum. */
export interface Distribution {
  /** `[vocab]` */
  readonly weights: Float64Array;
  readonly mass: number;
}

/** log sum exp of a row. */
function logSumExp(logits: Float32Array): number {
  let max = -Infinity;
  for (const x of logits) if (x > max) max = x;
  let total = 0;
  for (const x of logits) total += Math.exp(x - max);
  return max + Math.log(total);
}

/**
 * Log-probability of `token` under the model itself: no penalty, temperature or cut.
 * @param total log sum exp of the row, where it is known
 */
export function tokenLogprob(logits: Float32Array, token: number, total = logSumExp(logits)): number {
  return logits[token]! - total;
}

/** The `count` likeliest tokens under the model itself, likeliest first; ties by token id. `total` as for one token. */
export function topLogprobs(
  logits: Float32Array,
  count: number,
  total = logSumExp(logits),
): { token: number; logprob: number }[] {
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

function only(logits: Float32Array, allowed: TokenSet): Float32Array {
  return logits.map((x, token) => (hasToken(allowed, token) ? x : -Infinity));
}

function argmax(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

function sum(weights: Float64Array): number {
  let total = 0;
  for (let i = 0; i < weights.length; i++) total += weights[i]!;
  return total;
}

/** Sets to 0 what is outside the nucleus; of equal weights at its edge the lower token ids stay. */
function cutToNucleus(weights: Float64Array, topP: number): void {
  const mass = sum(weights);
  // What lies under this together weighs less than 1 - topP, so only the rest needs sorting.
  const floor = ((1 - topP) * mass) / weights.length;
  const sorted = weights.filter((w) => w > floor).sort();
  let kept = 0;
  let at = sorted.length;
  while (at > 0 && (kept < topP * mass || at === sorted.length)) kept += sorted[--at]!;
  const edge = sorted[at]!;
  let ties = 0;
  for (let i = at; i < sorted.length && sorted[i] === edge; i++) ties++;
  for (let i = 0; i < weights.length; i++) {
    if (weights[i]! < edge || (weights[i] === edge && ties-- <= 0)) weights[i] = 0;
  }
}

/**
 * The distribution a token is drawn from. `logits: [vocab]`.
 * @param seen prompt and generated tokens, for the repetition penalty
 * @param allowed the only tokens that may be drawn, at least one; the cuts are made among them
 */
export function distribution(
  logits: Float32Array,
  seen: Iterable<number>,
  settings: SamplingSettings,
  allowed?: TokenSet,
): Distribution {
  const possible = allowed === undefined ? logits : only(logits, allowed);
  const scores = penalised(possible, seen, settings.repetitionPenalty);
  const best = argmax(scores);
  const weights = new Float64Array(scores.length);
  weights[best] = 1;
  if (settings.temperature === 0) return { weights, mass: 1 };
  const threshold = settings.topK > 0 && settings.topK < scores.length ? kthLargest(scores, settings.topK) : -Infinity;
  const max = scores[best]!;
  for (let i = 0; i < scores.length; i++) {
    const x = scores[i]!;
    if (x >= threshold) weights[i] = Math.exp((x - max) / settings.temperature);
  }
  if (settings.topP < 1) cutToNucleus(weights, settings.topP);
  // The likeliest token weighs exactly 1.
  if (settings.minP > 0) for (let i = 0; i < weights.length; i++) if (weights[i]! < settings.minP) weights[i] = 0;
  return { weights, mass: sum(weights) };
}

/** Draws a token with exactly one number from `random`, so that the n-th token uses the n-th number. */
export function draw({ weights, mass }: Distribution, random: Random): number {
  const target = random() * mass;
  let passed = 0;
  let last = 0;
  for (let i = 0; i < weights.length; i++) {
    if (weights[i] === 0) continue;
    passed += weights[i]!;
    if (target < passed) return i;
    last = i;
  }
  // Rounding can leave the sum a little under the mass.
  return last;
}
