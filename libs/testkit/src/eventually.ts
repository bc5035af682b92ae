import { setTimeout as delay } from 'node:timers/promises';

const DEFAULT_TIMEOUT_MS = 10_000;
const POLL_MS = 15;

/**
 * Calls `fn` until it neither throws nor returns false, and gives what it returned. Use it instead of a sleep: it ends
 * as soon as the condition holds, and fails with the last error when it never does.
 *
 * @throws the last error of `fn` after the timeout, with the time waited
 */
export async function eventually<T>(fn: () => T | Promise<T>, options: { timeoutMs?: number } = {}): Promise<T> {
  const { timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    let failure: unknown;
    try {
      const value = await fn();
      if (value !== false) return value;
      failure = new Error('the condition is still false');
    } catch (error) {
      failure = error;
    }
    if (performance.now() > deadline) {
      const reason = failure instanceof Error ? failure.message : String(failure);
      throw new Error(`not within ${timeoutMs} ms: ${reason}`, { cause: failure });
    }
    await delay(POLL_MS);
  }
}
