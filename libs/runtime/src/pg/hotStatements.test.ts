import { describe, expect, it } from 'vitest';
import { HotStatements, isStalePlan, MAX_PREPARED, PREPARE_AFTER_RUNS } from './hotStatements.ts';

function run(hot: HotStatements, sql: string, times: number): string | undefined {
  let name: string | undefined;
  for (let i = 0; i < times; i++) name = hot.nameOf(sql);
  return name;
}

describe('HotStatements', () => {
  it('names a text once it is hot, and always the same', () => {
    const hot = new HotStatements();
    expect(run(hot, 'SELECT 1', PREPARE_AFTER_RUNS - 1)).toBeUndefined();
    const name = run(hot, 'SELECT 1', 1);
    expect(name).toBeDefined();
    expect(run(hot, 'SELECT 1', 3)).toBe(name);
    expect(run(hot, 'SELECT 2', PREPARE_AFTER_RUNS)).not.toBe(name);
  });

  it('has a plan made anew when a text has been run ten times as often as when its plan was made', () => {
    const hot = new HotStatements();
    const young = run(hot, 'SELECT 1', PREPARE_AFTER_RUNS);
    expect(run(hot, 'SELECT 1', PREPARE_AFTER_RUNS * 9 - 1)).toBe(young);
    const grown = run(hot, 'SELECT 1', 1);
    expect(grown).not.toBe(young);
    expect(run(hot, 'SELECT 1', PREPARE_AFTER_RUNS * 90 - 1)).toBe(grown);
    expect(new Set([young, grown, run(hot, 'SELECT 1', 1)]).size).toBe(3);
  });

  it('prepares no more than a connection should hold', () => {
    const hot = new HotStatements();
    const names = Array.from({ length: MAX_PREPARED + 5 }, (_, i) => run(hot, `SELECT ${i}`, PREPARE_AFTER_RUNS));
    expect(new Set(names.slice(0, MAX_PREPARED)).size).toBe(MAX_PREPARED);
    expect(names.slice(MAX_PREPARED)).toEqual([undefined, undefined, undefined, undefined, undefined]);
  });

  it('knows the failures after which a connection must prepare anew', () => {
    expect(isStalePlan(Object.assign(new Error('cached plan must not change result type'), { code: '0A000' }))).toBe(
      true,
    );
    expect(isStalePlan(Object.assign(new Error('duplicate key'), { code: '23505' }))).toBe(false);
  });
});
