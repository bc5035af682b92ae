import { describe, expect, it } from 'vitest';
import { evaluate, type EvaluationInput, type FreshGroup, type TextScore } from './evaluation.ts';

const text = (base: number, after: number, before = base): TextScore => ({ base, before, after, tokens: 10 });

/** `wins` of ten comparisons go to the candidate; all answers have three words. */
function group(index: number, wins: number): FreshGroup {
  return {
    groupId: `g${index}`,
    before: ['an old answer'],
    after: ['a new answer'],
    comparisons: Array.from({ length: 10 }, (_, i) => ({
      candidate: 0,
      baseline: 0,
      candidateFirst: i % 2 === 0,
      outcome: i < wins ? 1 : 0,
      candidateScore: 0.5,
      baselineScore: -0.25,
      candidateDetails: { wrong_attributes: 0 },
      baselineDetails: { wrong_attributes: 2 },
    })),
  };
}

function input(change: Partial<EvaluationInput> = {}): EvaluationInput {
  return {
    method: 'dpo',
    seed: 'seed',
    fresh: Array.from({ length: 100 }, (_, i) => group(i, 7 + (i % 3))),
    pairs: [],
    guard: [],
    evaluator: { kind: 'human', scripted: true },
    leakedGroups: 0,
    openQuarantines: 0,
    spending: { history: null, quarter: '2026-Q4', testSplit: 'a', refreshedShare: 0, expectedDecisions: 4 },
    ...change,
  };
}

describe('evaluate', () => {
  it('measures both sides and their paired difference, and promotes a clear gain', () => {
    const { before, after, difference, decision } = evaluate(input());
    expect(before.freshReward?.value).toBe(-0.25);
    expect(after.freshReward?.value).toBe(0.5);
    expect(difference.freshReward?.value).toBe(0.75);
    expect(after.winRate?.value).toBeCloseTo(0.799, 10);
    expect(before.winRate).toEqual({ value: 0.5, low: null, high: null, n: 100 });
    expect(difference.wrongAttributes?.value).toBe(-2);
    expect(after.words?.value).toBe(3);
    expect(decision).toMatchObject({ decision: 'promoted', evaluator: 'scripted reviewer' });
  });

  it('is the same for the same input', () => {
    expect(evaluate(input())).toEqual(evaluate(input()));
  });

  it('counts a held-out pair for the more likely text, averages within a prompt, and ties one half', () => {
    const chosen = text(-5, -4);
    const pairs = [
      { groupKey: 'a', chosen, rejected: text(-6, -3) },
      { groupKey: 'a', chosen, rejected: text(-5, -4) },
      { groupKey: 'b', chosen, rejected: text(-4, -9) },
    ];
    const { before, after } = evaluate(input({ pairs }));
    // a: right and a tie before, wrong and a tie after; b: wrong before, right after.
    expect(before.preferenceAccuracy).toMatchObject({ value: (0.75 + 0) / 2, n: 2 });
    expect(after.preferenceAccuracy).toMatchObject({ value: (0.25 + 1) / 2, n: 2 });
  });

  it('weighs perplexity by tokens and takes the test answers where there are no general texts', () => {
    const pairs = [{ groupKey: 'a', chosen: { ...text(-10, -20), tokens: 10 }, rejected: null }];
    const alone = evaluate(input({ pairs }));
    expect(alone.before.perplexity?.value).toBeCloseTo(Math.E, 12);
    expect(alone.after.perplexity?.value).toBeCloseTo(Math.E ** 2, 12);
    expect(alone.decision.guards).toEqual([]);
    const guard = [
      { base: -10, before: -10, after: -10, tokens: 10 },
      { base: -20, before: -20, after: -20, tokens: 40 },
    ];
    expect(evaluate(input({ pairs, guard })).after.perplexity?.value).toBeCloseTo(Math.exp(30 / 50), 12);
  });

  it('keeps a candidate that has forgotten the base’s language, however well it does', () => {
    const guard = Array.from({ length: 20 }, (_, i) => text(-10, -12, -12 + i / 100));
    const { decision } = evaluate(input({ guard }));
    expect(decision).toMatchObject({ decision: 'kept', keptBecause: 'guard-failed' });
    // Against the base, not against what serves: small losses must not add up.
    expect(decision.guards[0]!.value).toBeCloseTo(Math.exp(0.2), 10);
  });

  it('gives values without intervals for a single test prompt', () => {
    const { before, after, decision } = evaluate(input({ fresh: [group(0, 8)] }));
    expect(after.winRate).toEqual({ value: 0.8, low: null, high: null, n: 1 });
    expect(before.freshReward).toEqual({ value: -0.25, low: null, high: null, n: 1 });
    expect(decision.keptBecause).toBe('not-enough-evidence');
  });

  it('decides nothing without anyone to judge, and spends nothing', () => {
    const { after, decision } = evaluate(input({ fresh: [] }));
    expect(after).toEqual({});
    expect(decision).toMatchObject({ decision: 'kept', keptBecause: 'not-enough-evidence', alphaSpent: 0 });
  });
});
