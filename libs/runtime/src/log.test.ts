import { describe, expect, it } from 'vitest';
import { createLog, redact, redactText } from './log.ts';
import { runWithTrace, startTrace } from './trace.ts';

function capture(level: 'info' | 'debug' = 'info') {
  const lines: Record<string, unknown>[] = [];
  const log = createLog({
    level,
    destination: { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) },
  });
  return { log, lines };
}

const KEY = `tl_abcd1234_${'k'.repeat(43)}`;
const JWT = `eyJhbGciOiJFZERTQSJ9.${'p'.repeat(40)}.${'s'.repeat(40)}`;

describe('a log line', () => {
  it('is one JSON object with time, level name, service and trace', () => {
    const { log, lines } = capture();
    const trace = startTrace();
    runWithTrace(trace, () => log.child({ service: 'rewards' }).info({ count: 2 }, 'hello'));
    log.debug('not at this level');
    expect(lines).toEqual([
      {
        level: 'info',
        time: expect.stringMatching(/^\d{4}-.*Z$/),
        service: 'rewards',
        trace_id: trace.traceId,
        span_id: trace.spanId,
        count: 2,
        msg: 'hello',
      },
    ]);
  });

  it('holds no credential, at any depth and in any spelling', () => {
    const { log, lines } = capture();
    log.child({ service: 'x', apiKey: KEY }).info(
      {
        headers: {
          Authorization: `Bearer ${JWT}`,
          'X-Api-Key': KEY,
          cookie: 'session=hunter2',
          'set-cookie': ['hunter2'],
          accept: 'text/html',
        },
        config: [
          { password: 'hunter2', JWT_SECRET: 'hunter2', service_role_key: 'hunter2', 'access-token': 'hunter2' },
        ],
        url: 'postgres://user:hunter2@db:5432/x?token=hunter2&limit=3',
        err: new Error(`connect postgres://user:hunter2@db failed with Bearer hunter2hunter2`, {
          cause: new Error(`key ${KEY}`),
        }),
        token_count: 12,
        tokens: 7,
      },
      `called with ${KEY} and ${JWT} at nats://hunter2@host:4222`,
    );
    const text = JSON.stringify(lines);
    expect(text).not.toContain('hunter2');
    expect(text).not.toContain('kkkkkkkk');
    expect(text).not.toContain('pppppppp');
    // What is no secret stays, or the log would be of no use.
    expect(lines[0]).toMatchObject({
      headers: { accept: 'text/html' },
      token_count: 12,
      tokens: 7,
      err: { type: 'Error', stack: expect.stringContaining('log.test.ts') },
    });
    expect(text).toContain('@db:5432/x?token=[redacted]&limit=3');
  });

  it('cuts what is endless', () => {
    const cyclic: Record<string, unknown> = { name: 'a' };
    cyclic.self = cyclic;
    expect(JSON.stringify(redact(cyclic)).length).toBeLessThan(500);
    expect(redactText('x'.repeat(100_000)).length).toBeLessThan(20_000);
    expect((redact(Array.from({ length: 10_000 }, () => 1)) as unknown[]).length).toBe(200);
    expect(redact({ bytes: new Uint8Array(5), big: 5n })).toEqual({ bytes: '[5 bytes]', big: '5' });
  });
});
