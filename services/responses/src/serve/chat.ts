import type { ChatCompletion, ChatCompletionChunk, ChatCompletionRequest } from '@tuneloop/contracts/responses/openai';
import type { ResponseFormat } from '@tuneloop/engine/sample/constraint/constraint';
import type { Generation, GenerateRequest, TokenEvent } from '@tuneloop/engine/sample/request';
import type { Tokenizer } from '@tuneloop/engine/tokenizer/tokenizer';
import { EngineError } from '@tuneloop/engine/errors';
import { badRequest } from '@tuneloop/runtime/errors';
import { newId } from '@tuneloop/runtime/ids';
import { checkLocalRequest } from '../domain/localRequest.ts';
import { contentText } from '../domain/messages.ts';
import type { ModelHost } from './modelHost.ts';

/** Tokens of an answer when the request names no bound; the context may end it sooner. */
const DEFAULT_MAX_TOKENS = 1_024;
/** The sampler's least probability mass; OpenAI allows 0. */
const LEAST_TOP_P = 1e-6;

export interface ServeRequest {
  readonly host: ModelHost;
  /** Adapter to sample with; it is held by the caller until the answer is out. */
  readonly checkpointId: string | null;
  readonly body: ChatCompletionRequest;
  /** What the answer calls the model. */
  readonly model: string;
  readonly signal: AbortSignal;
}

interface Head {
  readonly id: string;
  readonly created: number;
  readonly model: string;
  readonly system_fingerprint: string;
}

function head(request: ServeRequest): Head {
  const created = Math.floor(Date.now() / 1000);
  return { id: `chatcmpl-${newId()}`, created, model: request.model, system_fingerprint: request.model };
}

/** A schema is held to whether or not it says `strict`. */
function responseFormat(body: ChatCompletionRequest): ResponseFormat | undefined {
  const format = body.response_format;
  if (format?.type === 'json_object') return { type: 'json_object' };
  return format?.type === 'json_schema' ? { type: 'json_schema', schema: format.json_schema?.schema } : undefined;
}

/** One sampler request per choice; choice i has seed + i. */
function samplerRequests(
  request: ServeRequest,
  onToken?: (choice: number, event: TokenEvent) => void,
): GenerateRequest[] {
  const { body, host } = request;
  checkLocalRequest(body);
  const messages = body.messages.map((message) => ({
    role: message.role === 'developer' ? 'system' : message.role,
    content: contentText(message.content),
  }));
  const prompt = promptTokens(host, messages);
  const seed = body.seed ?? undefined;
  const stop = body.stop ?? [];
  const format = responseFormat(body);
  return Array.from({ length: body.n ?? 1 }, (_, choice) => ({
    prompt,
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? DEFAULT_MAX_TOKENS,
    temperature: body.temperature ?? 1,
    topP: Math.max(LEAST_TOP_P, body.top_p ?? 1),
    stop: typeof stop === 'string' ? [stop] : stop,
    signal: request.signal,
    ...(request.checkpointId === null ? {} : { adapter: request.checkpointId }),
    ...(seed === undefined ? {} : { seed: seed + choice }),
    ...(format ? { responseFormat: format } : {}),
    ...(body.logprobs ? { topLogprobs: body.top_logprobs ?? 0 } : {}),
    ...(onToken ? { onToken: (event) => onToken(choice, event) } : {}),
  }));
}

function promptTokens(host: ModelHost, messages: readonly { role: string; content: string }[]): number[] {
  try {
    return host.chat.encodePrompt(messages);
  } catch (error) {
    if (error instanceof EngineError) throw badRequest('invalid_value', error.message, 'messages');
    throw error;
  }
}

// A type and not an interface, so that it counts as JSON.
type TokenLogprob = { token: string; logprob: number; bytes: number[] };

type Logprobs = { content: (TokenLogprob & { top_logprobs: TokenLogprob[] })[]; refusal: null };

function tokenLogprob(tokenizer: Tokenizer, token: number, logprob: number): TokenLogprob {
  const text = tokenizer.decode([token], { keepSpecialTokens: true });
  return { token: text, logprob, bytes: [...Buffer.from(text, 'utf8')] };
}

/** OpenAI's `logprobs` of a whole choice. */
function choiceLogprobs(tokenizer: Tokenizer, generation: Generation): Logprobs {
  return {
    content: generation.tokens.map((token, i) => ({
      ...tokenLogprob(tokenizer, token, generation.logprobs[i] ?? 0),
      top_logprobs: (generation.topLogprobs?.[i] ?? []).map((entry) =>
        tokenLogprob(tokenizer, entry.token, entry.logprob),
      ),
    })),
    refusal: null,
  };
}

function usageOf(generations: readonly Generation[]) {
  const read = generations[0]?.promptTokens ?? 0;
  const sampled = generations.reduce((sum, generation) => sum + generation.tokens.length, 0);
  return { prompt_tokens: read, completion_tokens: sampled, total_tokens: read + sampled };
}

export async function completeChat(request: ServeRequest): Promise<ChatCompletion> {
  const { host, body } = request;
  const generations = await host.generate(samplerRequests(request));
  return {
    ...head(request),
    object: 'chat.completion',
    choices: generations.map((generation, index) => ({
      index,
      message: { role: 'assistant', content: generation.text ?? '', refusal: null },
      finish_reason: generation.finishReason,
      completion_tokens: generation.tokens.length,
      logprobs: body.logprobs ? choiceLogprobs(host.tokenizer, generation) : null,
    })),
    usage: usageOf(generations),
  };
}

/**
 * The answer as chunks. The first chunk comes with the first token, so that what cannot be answered at all is still an
 * error with its status. Chunks wait in memory until they are read: at most one per token of the answer.
 */
export async function* streamChat(request: ServeRequest): AsyncGenerator<ChatCompletionChunk> {
  const { host, body } = request;
  const common = { ...head(request), object: 'chat.completion.chunk' };
  const abort = new AbortController();
  const queue: ChatCompletionChunk[] = [];
  let wake = Promise.withResolvers<void>();
  let finished = false;
  const push = (
    index: number,
    delta: Record<string, unknown>,
    finish: string | null,
    logprobs: Logprobs | null = null,
  ): void => {
    queue.push({
      ...common,
      choices: [{ index, delta, finish_reason: finish, logprobs }],
    });
    wake.resolve();
  };
  const opened = new Set<number>();
  // Alternatives are known when the answer is whole, so a stream that asks for them sends its text then.
  const atEnd = body.logprobs === true && (body.top_logprobs ?? 0) > 0;
  const onToken = (choice: number, event: TokenEvent): void => {
    if (!opened.has(choice)) push(choice, { role: 'assistant', content: '', refusal: null }, null);
    opened.add(choice);
    if (atEnd) return;
    const logprobs = body.logprobs
      ? { content: [{ ...tokenLogprob(host.tokenizer, event.token, event.logprob), top_logprobs: [] }], refusal: null }
      : null;
    if (event.text !== '' || logprobs) push(choice, { content: event.text }, null, logprobs);
  };
  const signal = AbortSignal.any([request.signal, abort.signal]);
  const requests = samplerRequests({ ...request, signal }, onToken);
  const work = host.generate(requests).finally(() => {
    finished = true;
    wake.resolve();
  });
  // Awaited below; a failure meanwhile must not count as unhandled.
  work.catch(() => undefined);
  try {
    for (;;) {
      const chunk = queue.shift();
      if (chunk) yield chunk;
      else if (finished) break;
      else {
        await wake.promise;
        wake = Promise.withResolvers<void>();
      }
    }
    const generations = await work;
    generations.forEach((generation, index) => {
      if (atEnd) {
        push(index, { content: generation.text ?? '' }, null, choiceLogprobs(host.tokenizer, generation));
      }
      push(index, {}, generation.finishReason);
    });
    yield* queue;
    if (body.stream_options?.include_usage) yield { ...common, choices: [], usage: usageOf(generations) };
  } finally {
    abort.abort(new Error('the reader has gone'));
    await work.catch(() => undefined);
  }
}
