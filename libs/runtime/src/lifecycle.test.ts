import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import { Lifecycle, stopWithProcess } from './lifecycle.ts';
import { createLog } from './log.ts';

function logged() {
  const lines: Record<string, unknown>[] = [];
  return {
    lines,
    log: createLog({
      destination: { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) },
    }),
  };
}
const never = () => new Promise<void>(() => undefined);

describe('a lifecycle', () => {
  it('starts in order and stops in reverse, once', async () => {
    const steps: string[] = [];
    const lifecycle = new Lifecycle({ log: logged().log });
    for (const name of ['a', 'b', 'c']) {
      await lifecycle.add(name, {
        start: async () => void steps.push(`+${name}`),
        stop: async () => void steps.push(`-${name}`),
      });
    }
    await Promise.all([lifecycle.stop(), lifecycle.stop()]);
    expect(steps).toEqual(['+a', '+b', '+c', '-c', '-b', '-a']);
    await expect(lifecycle.add('late', {})).rejects.toThrow('stopping');
  });

  it('goes on past what hangs and what fails, and says which', async () => {
    const { lines, log } = logged();
    const steps: string[] = [];
    const lifecycle = new Lifecycle({ log });
    await lifecycle.add('first', { stop: () => void steps.push('first') });
    await lifecycle.add('hangs', { stop: never, stopTimeoutMs: 20 });
    await lifecycle.add('fails', {
      stop: () => {
        throw new Error('broken');
      },
    });
    await lifecycle.stop();
    expect(steps).toEqual(['first']);
    expect(lifecycle.report).toEqual({ failed: ['fails'], hung: ['hangs'] });
    expect(lines.map((line) => [line.part, line.level])).toEqual([
      ['fails', 'error'],
      ['hangs', 'error'],
    ]);
  });

  it('stops a part whose start failed or took too long', async () => {
    const steps: string[] = [];
    const lifecycle = new Lifecycle({ log: logged().log });
    await expect(
      lifecycle.add('half', { start: () => Promise.reject(new Error('no')), stop: () => void steps.push('half') }),
    ).rejects.toThrow('no');
    await expect(
      lifecycle.add('slow', { start: never, startTimeoutMs: 20, stop: () => void steps.push('slow') }),
    ).rejects.toThrow('slow did not start');
    await lifecycle.stop();
    expect(steps).toEqual(['slow', 'half']);
  });
});

describe('with the process', () => {
  function harness(stop: Parameters<typeof stopWithProcess>[0]) {
    const exited = Promise.withResolvers<number>();
    const codes: number[] = [];
    const target = Object.assign(new EventEmitter(), {
      exit: (code: number) => {
        codes.push(code);
        exited.resolve(code);
      },
    });
    const { lines, log } = logged();
    const untie = stopWithProcess(stop, log, target);
    return { target, exited: exited.promise, codes, lines, untie };
  }

  it('a signal stops and exits 0, and 1 when something hung', async () => {
    const clean = harness(async () => undefined);
    clean.target.emit('SIGTERM', 'SIGTERM');
    expect(await clean.exited).toBe(0);
    const hung = harness(async () => ({ failed: [], hung: ['nats'] }));
    hung.target.emit('SIGINT', 'SIGINT');
    expect(await hung.exited).toBe(1);
  });

  it('a second signal exits at once', async () => {
    const { target, exited } = harness(never);
    target.emit('SIGTERM', 'SIGTERM');
    target.emit('SIGINT', 'SIGINT');
    expect(await exited).toBe(1);
  });

  it('an unhandled rejection is logged and ends in an orderly exit 1', async () => {
    const order: string[] = [];
    const { target, exited, lines, codes } = harness(async () => void order.push('stopped'));
    target.emit('unhandledRejection', new Error('forgotten'));
    target.emit('uncaughtException', new Error('and another'));
    expect(await exited).toBe(1);
    expect([order, codes]).toEqual([['stopped'], [1]]);
    expect(lines[0]).toMatchObject({ level: 'fatal', err: { message: 'forgotten' } });
  });

  it('can be untied', () => {
    const { target, untie } = harness(never);
    untie();
    expect(target.eventNames()).toEqual([]);
  });
});
