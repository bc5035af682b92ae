import { EngineError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { TokenIds } from '../types.ts';
import type { Constraint, Constraints, ResponseFormat } from './constraint/constraint.ts';
import type { SamplingSettings } from './logits.ts';

const MAX_STOP_STRINGS = 16;
const MAX_TOP_LOGPROBS = 20;
/** Lower bound of settings that must not be 0. */
const SMALLEST = 1e-6;

/** A piece of an answer, as it is sampled. */
export interface TokenEvent {
  readonly token: number;
  /** Text that became certain with this token: whole characters, no part of a stop string. Empty without a tokenizer. */
  readonly text: string;
  readonly logprob: number;
}

export interface GenerateRequest extends Partial<SamplingSettings> {
  /** Token ids, or text for the sampler's tokenizer (special tokens in it count as such; none are added). */
  readonly prompt: TokenIds | string;
  /** Upper bound of sampled tokens. */
  readonly maxTokens: number;
  /** Name given to `addAdapter`; absent: the base model. The adapter is fixed when the request is made. */
  readonly adapter?: string;
  /** The same request with the same seed gives the same answer. Drawn when absent. */
  readonly seed?: number;
  /** End the answer; the token is part of `tokens`, not of `text`. Added to the sampler's `eosTokenIds`. */
  readonly stopTokenIds?: readonly number[];
  /** End the answer before the first of these texts. At most 16. */
  readonly stop?: readonly string[];
  /**
   * Only tokens that keep the answer in this format are drawn, and none that would end it early. An answer that is whole
   * ends by itself with `stop`; one that `maxTokens`, the context or a stop string cuts off is only the beginning of one.
   */
  readonly responseFormat?: ResponseFormat;
  /** Go on after `eosTokenIds` (default false). */
  readonly ignoreEos?: boolean;
  /** Also give this many likeliest alternatives at each token, at most 20. */
  readonly topLogprobs?: number;
  /** Called for each token in order. What it throws rejects the request. */
  readonly onToken?: (event: TokenEvent) => void;
  readonly signal?: AbortSignal;
}

export interface Generation {
  /** What was sampled, with the stop token when one ended it. */
  readonly tokens: readonly number[];
  /** The decoded answer, when the sampler has a tokenizer. */
  readonly text?: string;
  /** `stop`: a stop token or string; `length`: `maxTokens` or the context is used up. */
  readonly finishReason: 'stop' | 'length';
  /** For each token its log-probability under the model itself: before penalties, temperature and cuts. */
  readonly logprobs: readonly number[];
  /** For each token the likeliest alternatives, likeliest first. */
  readonly topLogprobs?: readonly (readonly { token: number; logprob: number }[])[];
  readonly promptTokens: number;
  readonly seed: number;
}

/** A request with every default filled in. */
export interface CheckedRequest {
  readonly prompt: Int32Array;
  readonly maxTokens: number;
  readonly settings: SamplingSettings;
  readonly stopTokens: ReadonlySet<number>;
  readonly stop: readonly string[];
  readonly tokenizer?: Tokenizer;
  readonly constraint?: Constraint;
}

export interface RequestLimits {
  readonly vocabSize: number;
  readonly maxContext: number;
  readonly eosTokenIds: readonly number[];
  readonly tokenizer?: Tokenizer;
  /** There whenever `tokenizer` is. */
  readonly constraints?: Constraints;
}

function bad(field: string, rule: string, found: unknown): EngineError {
  return new EngineError('engine.sample.bad_request', `${field} must be ${rule}, found ${String(found)}`);
}

function inRange(field: string, value: number, low: number, high: number, whole = false): number {
  if (!(value >= low && value <= high) || (whole && !Number.isInteger(value))) {
    const bound = high === Infinity ? `at least ${low}` : `from ${low} to ${high}`;
    throw bad(field, `${whole ? 'an integer' : 'a number'} ${bound}`, value);
  }
  return value;
}

function readPrompt(request: GenerateRequest, limits: RequestLimits): Int32Array {
  const { prompt } = request;
  if (typeof prompt === 'string' && limits.tokenizer === undefined) {
    throw bad('prompt', 'token ids, since the sampler has no tokenizer', 'text');
  }
  const ids = Int32Array.from(typeof prompt === 'string' ? limits.tokenizer!.encode(prompt) : prompt);
  if (ids.length === 0) throw bad('prompt', 'at least one token', 'nothing');
  const wrong = ids.find((id) => id < 0 || id >= limits.vocabSize);
  if (wrong !== undefined) throw bad('prompt', `token ids below ${limits.vocabSize}`, wrong);
  if (ids.length >= limits.maxContext) {
    throw new EngineError(
      'engine.sample.prompt_too_long',
      `the prompt has ${ids.length} tokens; the context of ${limits.maxContext} must also hold the answer`,
    );
  }
  return ids;
}

function readSettings(request: GenerateRequest, vocabSize: number): SamplingSettings {
  return {
    temperature: inRange('temperature', request.temperature ?? 1, 0, 100),
    topP: inRange('topP', request.topP ?? 1, SMALLEST, 1),
    topK: inRange('topK', request.topK ?? 0, 0, Math.max(vocabSize, 1_000_000), true),
    minP: inRange('minP', request.minP ?? 0, 0, 1),
    repetitionPenalty: inRange('repetitionPenalty', request.repetitionPenalty ?? 1, SMALLEST, 100),
  };
}

/**
 * @throws EngineError `engine.sample.bad_request` with the field, `engine.sample.prompt_too_long`,
 * `engine.sample.unsupported_schema` and `engine.sample.unsupported_pattern` for a `responseFormat`
 */
export function checkRequest(request: GenerateRequest, limits: RequestLimits): CheckedRequest {
  const prompt = readPrompt(request, limits);
  const stop = request.stop ?? [];
  if (stop.length > 0 && limits.tokenizer === undefined)
    throw bad('stop', 'absent, since the sampler has no tokenizer', stop);
  if (stop.length > MAX_STOP_STRINGS || stop.includes('')) {
    throw bad('stop', `at most ${MAX_STOP_STRINGS} strings that are not empty`, JSON.stringify(stop));
  }
  if (request.seed !== undefined && !Number.isSafeInteger(request.seed)) throw bad('seed', 'an integer', request.seed);
  inRange('topLogprobs', request.topLogprobs ?? 0, 0, MAX_TOP_LOGPROBS, true);
  const wanted = inRange('maxTokens', request.maxTokens, 1, Infinity, true);
  const eos = request.ignoreEos ? [] : limits.eosTokenIds;
  const stopTokens = new Set([...eos, ...(request.stopTokenIds ?? [])]);
  const format = request.responseFormat;
  if (format !== undefined && limits.constraints === undefined) {
    throw bad('responseFormat', 'absent, since the sampler has no tokenizer', format.type);
  }
  return {
    prompt,
    maxTokens: Math.min(wanted, limits.maxContext - prompt.length),
    settings: readSettings(request, limits.vocabSize),
    stopTokens,
    stop,
    ...(limits.tokenizer && { tokenizer: limits.tokenizer }),
    ...(format && limits.constraints && { constraint: limits.constraints.create(format, stopTokens) }),
  };
}
