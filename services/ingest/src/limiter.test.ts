import { describe, expect, it } from 'vitest';
import { Limiter } from './limiter.ts';

function gate() {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { promise, open: resolve };
}

describe('Limiter', () => {
  it('runs so many at a time, in order, and refuses what does not fit the queue', async () => {
    const limiter = new Limiter({ concurrency: 2, maxWaiting: 1, what: 'things' });
    const gates = [gate(), gate(), gate()];
    const started: number[] = [];
    const runs = gates.map(({ promise }, n) =>
      limiter.run(async () => {
        started.push(n);
        await promise;
        return n;
      }),
    );
    await expect(limiter.run(async () => 'late')).rejects.toMatchObject({ status: 503, retry: true });
    expect(started).toEqual([0, 1]);
    gates[1]?.open();
    await runs[1];
    expect(started).toEqual([0, 1, 2]);
    gates[0]?.open();
    gates[2]?.open();
    expect(await Promise.all(runs)).toEqual([0, 1, 2]);
    expect(await limiter.run(async () => 'free')).toBe('free');
  });

  it('gives its place on when work fails', async () => {
    const limiter = new Limiter({ concurrency: 1, maxWaiting: 5, what: 'things' });
    const failing = limiter.run(async () => Promise.reject(new Error('no')));
    const next = limiter.run(async () => 'next');
    await expect(failing).rejects.toThrow('no');
    expect(await next).toBe('next');
  });
});
