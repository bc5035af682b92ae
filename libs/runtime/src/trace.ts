import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';

/** W3C trace context of the work in progress. Ids are lower-case hex: 32 and 16 digits. */
export interface TraceContext {
  readonly traceId: string;
  readonly spanId: string;
  readonly sampled: boolean;
}

/** Header by which one service tells another which turn of the loop a call belongs to. */
export const CORRELATION_HEADER = 'tuneloop-correlation-id';

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/;
const storage = new AsyncLocalStorage<TraceContext>();

/** A span of our own: in the caller's trace when its `traceparent` is well formed, else in a new trace. */
export function startTrace(traceparent?: string): TraceContext {
  const spanId = randomBytes(8).toString('hex');
  const match = traceparent === undefined ? null : TRACEPARENT.exec(traceparent);
  const [, version, traceId, parentId, flags] = match ?? [];
  if (!traceId || version === 'ff' || /^0+$/.test(traceId) || /^0+$/.test(parentId ?? '0')) {
    return { traceId: randomBytes(16).toString('hex'), spanId, sampled: true };
  }
  return { traceId, spanId, sampled: (Number.parseInt(flags ?? '0', 16) & 1) === 1 };
}

/** The header that carries a trace to the next process. */
export function formatTraceparent(trace: TraceContext): string {
  return `00-${trace.traceId}-${trace.spanId}-${trace.sampled ? '01' : '00'}`;
}

export function currentTrace(): TraceContext | undefined {
  return storage.getStore();
}

/** Runs `work` and everything it awaits inside the trace. */
export function runWithTrace<T>(trace: TraceContext, work: () => T): T {
  return storage.run(trace, work);
}
