import { createRandom, type Random } from '../random.ts';
import type { LoraWeights } from '../types.ts';
import { distribution, draw, tokenLogprob, topLogprobs } from './logits.ts';
import type { CheckedRequest, Generation, GenerateRequest } from './request.ts';
import { TextStream } from './textStream.ts';

/**
 * One request from queue to answer. It is open until it settles, once: with an answer (stop token, stop string, length), or
 * with an error (its signal, its callback, or `fail`). A settled sequence takes no more tokens.
 */
export class Sequence {
  readonly prompt: Int32Array;
  readonly adapter: LoraWeights | undefined;
  readonly result: Promise<Generation>;
  readonly #request: GenerateRequest;
  readonly #checked: CheckedRequest;
  readonly #seed: number;
  readonly #random: Random;
  readonly #text: TextStream | undefined;
  readonly #tokens: number[] = [];
  readonly #logprobs: number[] = [];
  readonly #alternatives: { token: number; logprob: number }[][] = [];
  readonly #resolve: (generation: Generation) => void;
  readonly #reject: (reason: unknown) => void;
  readonly #onAbort = (): void => this.fail(this.#request.signal?.reason);
  #settled = false;

  constructor(request: GenerateRequest, checked: CheckedRequest, adapter: LoraWeights | undefined, seed: number) {
    this.prompt = checked.prompt;
    this.adapter = adapter;
    this.#request = request;
    this.#checked = checked;
    this.#seed = seed;
    this.#random = createRandom(seed);
    this.#text = checked.tokenizer && new TextStream(checked.tokenizer, checked.stop);
    const { promise, resolve, reject } = Promise.withResolvers<Generation>();
    this.result = promise;
    this.#resolve = resolve;
    this.#reject = reject;
    request.signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  get settled(): boolean {
    return this.#settled;
  }

  get lastToken(): number {
    return this.#tokens.at(-1)!;
  }

  /** Whether another sequence can start from the same cache. */
  sharesPrompt(other: Sequence): boolean {
    if (other.adapter !== this.adapter || other.prompt.length !== this.prompt.length) return false;
    return this.prompt.every((id, i) => id === other.prompt[i]);
  }

  /** Draws the next token from `logits: [vocab]`, whose log sum exp is `total`. */
  accept(logits: Float32Array, total: number): void {
    try {
      this.#accept(logits, total);
    } catch (error) {
      this.fail(error);
    }
  }

  #accept(logits: Float32Array, total: number): void {
    const { settings, stopTokens, maxTokens, constraint } = this.#checked;
    const token = draw(distribution(logits, this.#seen(), settings, constraint?.allowed()), this.#random);
    const logprob = tokenLogprob(logits, token, total);
    this.#tokens.push(token);
    this.#logprobs.push(logprob);
    const alternatives = this.#request.topLogprobs ?? 0;
    if (alternatives > 0) this.#alternatives.push(topLogprobs(logits, alternatives, total));
    const ended = stopTokens.has(token);
    let text = ended ? '' : (this.#text?.push(token) ?? '');
    if (!ended) constraint?.accept(token);
    const stopped = ended || this.#text?.stopped === true || constraint?.ended === true;
    const last = stopped || this.#tokens.length >= maxTokens;
    if (last) text += this.#text?.end() ?? '';
    this.#request.onToken?.({ token, text, logprob });
    // The callback may have aborted the request.
    if (last && !this.#settled) this.#finish(stopped ? 'stop' : 'length');
  }

  *#seen(): Generator<number> {
    yield* this.prompt;
    yield* this.#tokens;
  }

  #finish(finishReason: 'stop' | 'length'): void {
    this.#settle();
    this.#resolve({
      tokens: this.#tokens,
      ...(this.#text && { text: this.#text.text }),
      finishReason,
      logprobs: this.#logprobs,
      ...(this.#alternatives.length > 0 && { topLogprobs: this.#alternatives }),
      promptTokens: this.prompt.length,
      seed: this.#seed,
    });
  }

  /** Rejects the request, unless it has settled. */
  fail(reason: unknown): void {
    if (this.#settled) return;
    this.#settle();
    this.#reject(reason);
  }

  #settle(): void {
    this.#settled = true;
    this.#request.signal?.removeEventListener('abort', this.#onAbort);
  }
}
