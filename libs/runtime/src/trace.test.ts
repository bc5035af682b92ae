import { describe, expect, it } from 'vitest';
import { currentTrace, formatTraceparent, runWithTrace, startTrace } from './trace.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const SPAN = 'b7ad6b7169203331';

describe('trace context', () => {
  it('continues a well-formed parent with a span of its own', () => {
    const trace = startTrace(`00-${TRACE}-${SPAN}-00`);
    expect(trace).toMatchObject({ traceId: TRACE, sampled: false });
    expect(trace.spanId).not.toBe(SPAN);
    expect(formatTraceparent(trace)).toBe(`00-${TRACE}-${trace.spanId}-00`);
    // A later version may append fields.
    expect(startTrace(`01-${TRACE}-${SPAN}-01-more`).traceId).toBe(TRACE);
  });

  it.each([
    undefined,
    '',
    'nonsense',
    `ff-${TRACE}-${SPAN}-01`,
    `00-${'0'.repeat(32)}-${SPAN}-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `00-${TRACE.toUpperCase()}-${SPAN}-01`,
  ])('starts anew for %j', (parent) => {
    const trace = startTrace(parent);
    expect(trace.traceId).toMatch(/^[0-9a-f]{32}$/);
    expect(trace.traceId).not.toBe(TRACE);
  });

  it('holds through awaits and does not leak beside them', async () => {
    const [a, b] = [startTrace(), startTrace()];
    const seen = await Promise.all(
      [a, b].map((trace) =>
        runWithTrace(trace, async () => {
          await new Promise(setImmediate);
          return currentTrace()?.traceId;
        }),
      ),
    );
    expect(seen).toEqual([a.traceId, b.traceId]);
    expect(currentTrace()).toBeUndefined();
  });
});
