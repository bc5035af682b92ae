import type { ChatCompletion, ChatCompletionChunk, ChatCompletionRequest } from '@tuneloop/contracts/responses/openai';
import { chatMessage } from '@tuneloop/contracts/responses/events';
import type { Auth } from '@tuneloop/runtime/auth/auth';
import { describeError } from '@tuneloop/runtime/errors';
import { newId } from '@tuneloop/runtime/ids';
import type { Metrics } from '@tuneloop/runtime/metrics';
import type { ResponsesContext } from '../context.ts';
import { promptGroup } from '../domain/hashes.ts';
import { promptOf } from '../domain/messages.ts';
import { immutableName, type ModelTarget } from '../domain/target.ts';
import { type Cause, recordResponses } from '../records.ts';
import type { NewResponse } from '../store/responses.ts';
import { openTrace } from '../store/traces.ts';
import { endGeneration, isOutage, Meter } from './generation.ts';
import type { Providers } from './providers.ts';
import type { Router } from './router.ts';

const ANONYMOUS_USER = 'anonymous';
const MAX_METADATA_CHARS = 200;

export interface ChatDependencies {
  readonly ctx: ResponsesContext;
  readonly providers: Providers;
  readonly router: Router;
}

export interface ChatRequest {
  readonly body: ChatCompletionRequest;
  readonly auth: Auth;
  readonly signal: AbortSignal;
  readonly correlationId: string | undefined;
}

/** What an answer tells of itself beside OpenAI's fields. */
export interface Provenance {
  readonly recorded: boolean;
  readonly model: string;
  readonly checkpoint_id: string | null;
  readonly slot: string;
}

interface Choice {
  content: string;
  finish: string | null;
}

/**
 * One chat completion, from the small insert before the first byte to the transaction that stores the answer.
 *
 *   begun (trace open, target fixed) -> answered -> recorded
 *                                    `-> failed | cut off
 *
 * The target is chosen once, when it begins: whatever is deployed meanwhile, the answer is wholly of one checkpoint.
 * With Postgres away it begins unrecorded, from the routes kept in memory, and is counted.
 */
export class ChatCompletionRun {
  readonly id: string;
  readonly created = Math.floor(Date.now() / 1000);
  readonly target: ModelTarget;
  readonly #deps: ChatDependencies;
  readonly #request: ChatRequest;
  readonly #traceId: string;
  readonly #userId: string;
  readonly #meter = new Meter();
  /** False when the trace could not be opened. */
  readonly #traced: boolean;

  private constructor(
    deps: ChatDependencies,
    request: ChatRequest,
    begun: { traceId: string; target: ModelTarget; userId: string; traced: boolean },
  ) {
    this.#deps = deps;
    this.#request = request;
    this.#traceId = begun.traceId;
    this.id = `chatcmpl-${begun.traceId}`;
    this.target = begun.target;
    this.#userId = begun.userId;
    this.#traced = begun.traced;
  }

  /** @throws AppError 404 for an unknown model, 400 for what its provider cannot honour */
  static async begin(deps: ChatDependencies, request: ChatRequest): Promise<ChatCompletionRun> {
    const { ctx, router, providers } = deps;
    const { body, auth } = request;
    const route = { model: body.model, slot: body.metadata?.slot, user: body.user ?? null };
    const traceId = newId();
    try {
      return await ctx.pg.withTenant(
        auth.projectId,
        async (tx) => {
          const { target, settings } = await router.resolve(tx, route);
          providers.check(target, body);
          const userId = body.user ?? settings.default_user_id;
          await openTrace(tx, { id: traceId, kind: 'chat', instance: ctx.instance, target, userId });
          return new ChatCompletionRun(deps, request, { traceId, target, userId, traced: true });
        },
        { actor: auth.actor },
      );
    } catch (error) {
      const target = isOutage(error) ? router.fallback(auth.projectId, route) : undefined;
      if (!target) throw error;
      providers.check(target, body);
      ctx.log.warn({ reason: describeError(error) }, 'answering without a record');
      const userId = body.user ?? ANONYMOUS_USER;
      return new ChatCompletionRun(deps, request, { traceId, target, userId, traced: false });
    }
  }

  /** The answer as a whole. */
  async complete(): Promise<ChatCompletion & { tuneloop: Provenance }> {
    const { body, auth, signal } = this.#request;
    let answer: ChatCompletion;
    try {
      answer = await this.#deps.providers.complete(this.target, body, { projectId: auth.projectId, signal });
    } catch (error) {
      await this.#fail(error);
      throw error;
    }
    this.#meter.firstToken();
    this.#meter.usage(answer.usage);
    const choices = new Map<number, Choice>(
      answer.choices.map(({ index, message, finish_reason }) => [
        index,
        { content: message.content ?? '', finish: finish_reason ?? 'stop' },
      ]),
    );
    const recorded = await this.#record(choices);
    return { ...answer, id: this.id, model: body.model, tuneloop: this.#provenance(recorded) };
  }

  /**
   * The answer as chunks. Those that end a choice are held back until the answer is stored: whoever has read the end can
   * rate it at once. A reader who goes away before cuts the generation off.
   */
  async *stream(): AsyncGenerator<ChatCompletionChunk & { tuneloop?: Provenance }> {
    const { body, auth, signal } = this.#request;
    const choices = new Map<number, Choice>();
    const ends: ChatCompletionChunk[] = [];
    let settled = false;
    try {
      const chunks = await this.#deps.providers.stream(this.target, body, { projectId: auth.projectId, signal });
      for await (const chunk of chunks) {
        const seen = this.#take(chunk, choices);
        if (seen === 'usage' && !body.stream_options?.include_usage) continue;
        if (seen === 'delta') yield this.#own(chunk);
        else ends.push(this.#own(chunk));
      }
      const recorded = await this.#record(choices);
      settled = true;
      const last = ends.length - 1;
      for (const [i, chunk] of ends.entries()) {
        yield i === last ? { ...chunk, tuneloop: this.#provenance(recorded) } : chunk;
      }
    } catch (error) {
      if (!settled) await this.#fail(error);
      settled = true;
      throw error;
    } finally {
      if (!settled) await this.#fail(new Error('the reader went away'));
    }
  }

  /** Adds a chunk to what was answered so far; says what the chunk is. */
  #take(chunk: ChatCompletionChunk, choices: Map<number, Choice>): 'delta' | 'end' | 'usage' {
    this.#meter.usage(chunk.usage);
    let ended = false;
    for (const { index, delta, finish_reason } of chunk.choices) {
      const choice = choices.get(index) ?? { content: '', finish: null };
      choice.content += delta.content ?? '';
      choice.finish = finish_reason ?? choice.finish;
      choices.set(index, choice);
      if (delta.content) this.#meter.firstToken();
      ended ||= typeof finish_reason === 'string';
    }
    if (chunk.choices.length === 0) return 'usage';
    return ended ? 'end' : 'delta';
  }

  #own(chunk: ChatCompletionChunk): ChatCompletionChunk {
    return { ...chunk, id: this.id, created: this.created, model: this.#request.body.model };
  }

  #provenance(recorded: boolean): Provenance {
    return {
      recorded,
      model: immutableName(this.target),
      checkpoint_id: this.target.checkpointId,
      slot: this.target.slot,
    };
  }

  /** One transaction for the answer, its trace and their events. False when it is not stored. */
  async #record(choices: ReadonlyMap<number, Choice>): Promise<boolean> {
    const { ctx, providers } = this.#deps;
    const { body, auth } = this.#request;
    const stored = body.store !== false;
    if (!this.#traced) {
      countUnrecorded(ctx.metrics, 'begin');
      return false;
    }
    try {
      await ctx.pg.withTenant(
        auth.projectId,
        async (tx) => {
          if (stored) await recordResponses(tx, this.#rows(choices), this.#cause);
          await endGeneration(tx, providers, {
            traceId: this.#traceId,
            target: this.target,
            meter: this.#meter,
            status: 'done',
            cause: this.#cause,
          });
          ctx.faults.hit('chat.before_commit');
        },
        { actor: auth.actor },
      );
      return stored;
    } catch (error) {
      countUnrecorded(ctx.metrics, 'end');
      ctx.log.error({ completion: this.id, reason: describeError(error) }, 'an answer went out unrecorded');
      return false;
    }
  }

  #rows(choices: ReadonlyMap<number, Choice>): NewResponse[] {
    const { body } = this.#request;
    const messages = body.messages.map((message) => chatMessage.parse(message));
    const prompt = promptOf(messages);
    const field = (name: string): string | null => body.metadata?.[name]?.slice(0, MAX_METADATA_CHARS) ?? null;
    return [...choices]
      .filter(([, choice]) => choice.finish !== null)
      .map(([index, choice]) => ({
        id: newId(),
        user_id: this.#userId,
        prompt_id: null,
        prompt,
        messages,
        response_text: choice.content,
        model_id: immutableName(this.target),
        checkpoint_id: this.target.checkpointId,
        slot: this.target.slot,
        completion_id: this.id,
        choice: index,
        image_id: null,
        facts: null,
        group_key: promptGroup(prompt),
        category: field('category'),
        brand: field('brand'),
        task: field('task'),
        session_id: null,
        purpose: 'production',
        metadata: { ...body.metadata, ...(choice.finish === 'stop' ? {} : { finish_reason: choice.finish }) },
        trace_id: this.#traceId,
      }));
  }

  get #cause(): Cause {
    return this.#request.correlationId === undefined ? {} : { correlationId: this.#request.correlationId };
  }

  async #fail(error: unknown): Promise<void> {
    if (!this.#traced) return;
    const { ctx, providers } = this.#deps;
    const { auth, signal } = this.#request;
    const cutOff = signal.aborted || (error instanceof Error && error.message === 'the reader went away');
    try {
      await ctx.pg.withTenant(
        auth.projectId,
        (tx) =>
          endGeneration(tx, providers, {
            traceId: this.#traceId,
            target: this.target,
            meter: this.#meter,
            status: cutOff ? 'cut_off' : 'failed',
            error,
            cause: this.#cause,
          }),
        { actor: auth.actor },
      );
    } catch (storeError) {
      // The sweeper ends the trace later.
      ctx.log.warn({ completion: this.id, reason: describeError(storeError) }, 'a trace stays open for now');
    }
  }
}

/** Answers that went out and are stored nowhere: because the trace could not be opened, or the answer not stored. */
export function unrecordedCounter(metrics: Metrics) {
  return metrics.counter('unrecorded_completions_total', 'Answers that went out without being recorded.', ['at']);
}

function countUnrecorded(metrics: Metrics, at: 'begin' | 'end'): void {
  unrecordedCounter(metrics).inc({ at });
}
