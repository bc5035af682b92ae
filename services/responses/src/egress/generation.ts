import { usageRecorded } from '@tuneloop/contracts/responses/events';
import { AppError, describeError } from '@tuneloop/runtime/errors';
import { toAppError } from '@tuneloop/runtime/http/errorMapping';
import { emit } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { immutableName, type ModelTarget } from '../domain/target.ts';
import type { Cause } from '../records.ts';
import { closeTrace } from '../store/traces.ts';
import type { Providers } from './providers.ts';

/** What a generation used and how it went, measured while it runs. */
export class Meter {
  readonly #startedAt = performance.now();
  #firstTokenMs: number | null = null;
  promptTokens = 0;
  completionTokens = 0;

  firstToken(): void {
    this.#firstTokenMs ??= performance.now() - this.#startedAt;
  }

  usage(usage: { readonly prompt_tokens: number; readonly completion_tokens: number } | null | undefined): void {
    if (!usage) return;
    this.promptTokens += usage.prompt_tokens;
    this.completionTokens += usage.completion_tokens;
  }

  get firstTokenMs(): number | null {
    return this.#firstTokenMs;
  }

  get elapsedMs(): number {
    return performance.now() - this.#startedAt;
  }
}

export interface GenerationEnd {
  readonly traceId: string;
  readonly target: ModelTarget;
  readonly meter: Meter;
  readonly status: 'done' | 'failed' | 'cut_off';
  readonly error?: unknown;
  readonly cause?: Cause | undefined;
}

/** Ends a trace and tells of the tokens that were spent, in the transaction that stores what they were spent on. */
export async function endGeneration(tx: Tx, providers: Providers, end: GenerationEnd): Promise<void> {
  const { traceId, target, meter } = end;
  const costUsd = providers.cost(target, meter.promptTokens, meter.completionTokens);
  const closed = await closeTrace(tx, traceId, {
    status: end.status,
    promptTokens: meter.promptTokens,
    completionTokens: meter.completionTokens,
    costUsd,
    latencyMs: meter.elapsedMs,
    firstTokenMs: meter.firstTokenMs,
    error: end.error === undefined ? null : describeError(end.error),
  });
  // Ended before: its tokens have been told.
  if (!closed || meter.promptTokens + meter.completionTokens === 0) return;
  await emit(tx, usageRecorded, {
    subject: traceId,
    data: {
      generation_id: traceId,
      model: immutableName(target),
      provider: target.provider,
      prompt_tokens: meter.promptTokens,
      completion_tokens: meter.completionTokens,
      cost_usd: costUsd,
      latency_ms: meter.elapsedMs,
    },
    ...end.cause,
  });
}

/** Whether an error means that something we stand on is away, and not that the request was wrong. */
export function isOutage(error: unknown): boolean {
  return toAppError(error).status === 503;
}

/** Whether the same call may go through a moment later. */
export function isPassing(error: unknown): boolean {
  return error instanceof AppError ? error.retry : toAppError(error).retry;
}
