import type { PairedGroup } from '@tuneloop/metrics/bootstrap';
import type { ComparisonGroup } from '@tuneloop/metrics/winRate';
import { describe, expect, it } from 'vitest';
import { drawComparisons, drawPairs, inputFor } from '../../test/gateEvidence.ts';
import type { GateDecision } from './gate.ts';
import { decidePromotion, overrideDecision } from './gate.ts';
import type { BlockerEvidence, BlockerName } from './gateBlockers.ts';
import type { Guard } from './gateGuards.ts';
import type { SpendingHistory } from './gateSpending.ts';

const good = drawComparisons({ seed: 'good', groups: 150, comparisonsPerGroup: 4, winRate: 0.68 });
/** Every second group mirrors the one before it, so neither side wins. */
const flat = drawComparisons({ seed: 'flat', groups: 150, comparisonsPerGroup: 4, winRate: 0.5 }).map(
  ({ groupId }, g, drawn) => ({
    groupId,
    comparisons: drawn[g - (g % 2)]!.comparisons.map((comparison) => ({
      ...comparison,
      outcome: g % 2 === 0 ? comparison.outcome : 1 - comparison.outcome,
    })),
  }),
);
const clear: BlockerEvidence = { evaluator: { kind: 'human' }, leakedGroups: 0, openQuarantines: 0 };

function perplexityGuard(ratio: number, changes: Partial<Guard> = {}): Guard {
  const groups = drawPairs(`perplexity ${ratio}`, 60, ratio);
  return { name: 'perplexity', higherIsBetter: false, scale: 'ratio', margin: 0.15, groups, ...changes };
}

function blocked(decision: GateDecision): BlockerName[] {
  return decision.blockers.filter(({ status }) => status === 'blocked').map(({ name }) => name);
}

/** The same comparisons with each outcome decided anew. */
function rejudged(
  groups: readonly ComparisonGroup[],
  judge: (comparison: ComparisonGroup['comparisons'][number]) => number,
): ComparisonGroup[] {
  return groups.map(({ groupId, comparisons }) => ({
    groupId,
    comparisons: comparisons.map((comparison) => ({ ...comparison, outcome: judge(comparison) })),
  }));
}

describe('a decision', () => {
  it('promotes a clear win and says so in numbers', () => {
    const decision = decidePromotion(inputFor(good, { guards: [perplexityGuard(1.02)] }));
    expect(decision.decision).toBe('promoted');
    expect(decision.keptBecause).toBeNull();
    const { primary } = decision;
    expect(primary).toMatchObject({ name: 'length-controlled win rate', n: 150, threshold: 0.5, passed: true });
    expect(primary!.alpha).toBeCloseTo(0.05, 12);
    expect(primary!.low).toBeLessThan(primary!.lowerBound!);
    expect(primary!.lowerBound).toBeLessThan(primary!.value);
    expect(decision.reason).toMatch(
      /^Promoted: length-controlled win rate 0\.6\d+ \(95% interval .* and the guard held\.$/u,
    );
    expect(decision.alphaSpent).toBeCloseTo(0.05, 12);
    expect(decision.alphaTotal).toBe(0.05);
  });

  it('keeps what shows no gain, and tells how much more evidence would show one', () => {
    const decision = decidePromotion(inputFor(flat.slice(0, 110)));
    expect(decision).toMatchObject({ decision: 'kept', keptBecause: 'no-clear-gain' });
    expect(decision.reason).toMatch(/^Kept: length-controlled win rate 0\.\d+ .* not above 0\.5/u);
  });

  it('is the same for the same evidence and seed, and survives JSON', () => {
    const decision = decidePromotion(inputFor(good));
    expect(decidePromotion(inputFor(good))).toEqual(decision);
    expect(JSON.parse(JSON.stringify(decision))).toEqual(decision);
  });

  it('asks for more below 100 groups and spends nothing', () => {
    const decision = decidePromotion(inputFor(good.slice(0, 60)));
    expect(decision).toMatchObject({
      decision: 'kept',
      keptBecause: 'not-enough-evidence',
      primary: null,
      alphaSpent: 0,
    });
    expect(decision.spending.next).toMatchObject({ decisions: 0, alphaSpent: 0 });
    expect(decision.reason).toBe(
      `Kept: not enough evidence, about ${decision.evidence.moreGroups} more test groups are needed ` +
        '(60 test groups of at least 100).',
    );
    expect(decision.evidence.moreGroups).toBeGreaterThanOrEqual(40);
  });

  it('plans for more groups the stricter the level', () => {
    const few = drawComparisons({ seed: 'few', groups: 50, comparisonsPerGroup: 1, winRate: 0.5 });
    const planned = [1, 4, 13].map((expectedDecisions) => {
      const { spending } = inputFor(few);
      return decidePromotion(inputFor(few, { spending: { ...spending, expectedDecisions } })).evidence.targetGroups;
    });
    // One comparison a group has a deviation near 0.49: ((1.645 + 0.842) * 0.49 / 0.1)^2 is about 149.
    expect(planned[0]).toBeGreaterThan(115);
    expect(planned[0]).toBeLessThan(165);
    expect(planned[1]).toBeGreaterThan(planned[0]!);
    expect(planned[2]).toBeGreaterThan(planned[1]!);
  });

  it('refuses evidence that does not fit the method or counts a group twice', () => {
    expect(() => decidePromotion(inputFor(good, { method: 'reward' }))).toThrow('preferenceAccuracy');
    expect(() => decidePromotion(inputFor([...good, good[0]!]))).toThrow('twice');
  });
});

describe('other methods', () => {
  const gain: PairedGroup[] = drawPairs('task', 120, 1.2, 0.5);

  it('decides sft by the task metric, a reward model by preference accuracy', () => {
    const sft = decidePromotion(
      inputFor([], { method: 'sft', primary: { kind: 'taskMetric', name: 'ROUGE-L gain', groups: gain } }),
    );
    expect(sft.decision).toBe('promoted');
    expect(sft.primary).toMatchObject({ name: 'ROUGE-L gain', threshold: 0, rawWinRate: null });
    const accuracy = gain.map(({ groupId }, i) => ({
      groupId,
      candidate: [Number(i % 5 > 0)],
      baseline: [i % 2],
    }));
    const reward = decidePromotion(
      inputFor([], { method: 'reward', primary: { kind: 'preferenceAccuracy', groups: accuracy } }),
    );
    expect(reward.primary!.value).toBeCloseTo(0.3, 12);
    expect(reward.decision).toBe('promoted');
  });

  it('decides a classifier by macro F1, which a common class cannot carry', () => {
    // 90% "a". The candidate gives up "b" altogether and wins accuracy; the baseline finds half of each.
    const groups = Array.from({ length: 200 }, (_, g) => {
      const actual = g % 10 === 0 ? 'b' : 'a';
      const baseline = g % 20 === 0 || (actual === 'a' && g % 7 === 0) ? 'b' : 'a';
      return { groupId: `g${g}`, rows: [{ actual, candidate: 'a', baseline }] };
    });
    const decision = decidePromotion(inputFor([], { method: 'classifier', primary: { kind: 'macroF1', groups } }));
    expect(decision.decision).toBe('kept');
    expect(decision.primary!.value).toBeLessThan(0);
    // By hand: candidate F1 of a is 2*180/(200+180) = 0.947, of b 0.
    const better = groups.map(({ groupId, rows }) => ({
      groupId,
      rows: [{ ...rows[0]!, candidate: rows[0]!.actual }],
    }));
    const perfect = decidePromotion(
      inputFor([], { method: 'classifier', primary: { kind: 'macroF1', groups: better } }),
    );
    expect(perfect.decision).toBe('promoted');
    expect(perfect.primary!.value - decision.primary!.value).toBeCloseTo(1 - 360 / 380 / 2, 9);
  });
});

describe('guards', () => {
  it('keep a winner that got worse by more than the margin, or not surely by less', () => {
    for (const ratio of [1.3, 1.15]) {
      const decision = decidePromotion(inputFor(good, { guards: [perplexityGuard(ratio)] }));
      expect(decision).toMatchObject({ decision: 'kept', keptBecause: 'guard-failed' });
      expect(decision.reason).toMatch(/^Kept: perplexity: ratio 1\.\d+, 95% bound 1\.\d+, limit 1\.150\.$/u);
    }
  });

  it('read the direction: a rise of what should be high is no harm', () => {
    const success = { name: 'task success', higherIsBetter: true, scale: 'difference', margin: 0.05 } as const;
    const up = decidePromotion(inputFor(good, { guards: [{ ...success, groups: drawPairs('up', 60, 1.2) }] }));
    const down = decidePromotion(inputFor(good, { guards: [{ ...success, groups: drawPairs('down', 60, 0.8) }] }));
    expect(up.guards[0]).toMatchObject({ held: true, limit: -0.05 });
    expect(down.guards[0]).toMatchObject({ held: false });
  });

  it('do not hold on too few measurements', () => {
    const decision = decidePromotion(
      inputFor(good, { guards: [perplexityGuard(1, { groups: drawPairs('x', 4, 1) })] }),
    );
    expect(decision.guards[0]).toMatchObject({ held: false, bound: null, n: 4 });
    expect(decision.decision).toBe('kept');
  });

  it('are at most four, with margins that mean something', () => {
    const guards = Array.from({ length: 5 }, () => perplexityGuard(1));
    expect(() => decidePromotion(inputFor(good, { guards }))).toThrow('at most 4');
    expect(() => decidePromotion(inputFor(good, { guards: [perplexityGuard(1, { margin: 0 })] }))).toThrow('margin');
  });
});

describe('blockers', () => {
  const judge = { kind: 'judge', name: 'panel', madeTrainingData: false } as const;
  const agreement = { lowerBound: 0.7, n: 140, bar: 0.6 };
  const cases: [string, Partial<BlockerEvidence>, BlockerName[]][] = [
    ['a leaked group', { leakedGroups: 3 }, ['leakage']],
    ['a quarantine still open', { openQuarantines: 1 }, ['quarantine']],
    [
      'a judge that made the data',
      { evaluator: { ...judge, agreement, madeTrainingData: true } },
      ['judge-trained-on'],
    ],
    [
      'a judge below its bar',
      { evaluator: { ...judge, agreement: { ...agreement, lowerBound: 0.59 } } },
      ['judge-agreement'],
    ],
    ['a judge nobody checked', { evaluator: { ...judge, agreement: null } }, ['judge-agreement']],
    [
      'a judge checked too little',
      { evaluator: { ...judge, agreement: { ...agreement, n: 99 } } },
      ['judge-agreement'],
    ],
    ['a judge that agrees', { evaluator: { ...judge, agreement } }, []],
    ['nothing', {}, []],
  ];

  it.each(cases)('%s', (_, evidence, expected) => {
    const decision = decidePromotion(inputFor(good, { blockers: { ...clear, ...evidence } }));
    expect(blocked(decision)).toEqual(expected);
    expect(decision.decision).toBe(expected.length === 0 ? 'promoted' : 'kept');
    expect(decision.keptBecause).toBe(expected.length === 0 ? null : 'blocked');
    expect(decision.alphaSpent).toBeCloseTo(0.05, 12); // the test was made and seen either way
  });

  it('a win by length alone', () => {
    const longer = rejudged(
      good.map(({ groupId, comparisons }) => ({
        groupId,
        comparisons: comparisons.map((comparison) => ({
          ...comparison,
          candidateLength: comparison.candidateLength + 3,
        })),
      })),
      ({ candidateLength, baselineLength }) => {
        if (Math.abs(candidateLength - baselineLength) <= 2) return 0.5;
        return candidateLength > baselineLength ? 1 : 0;
      },
    );
    const decision = decidePromotion(inputFor(longer));
    expect(decision.primary!.rawWinRate).toBeGreaterThan(0.6);
    expect(blocked(decision)).toContain('length-only-win');
  });

  it('answers that are never of one length', () => {
    const apart = good.map(({ groupId, comparisons }) => ({
      groupId,
      comparisons: comparisons.map((comparison) => ({ ...comparison, candidateLength: comparison.baselineLength * 2 })),
    }));
    const decision = decidePromotion(inputFor(apart));
    expect(blocked(decision)).toEqual(['length-only-win']);
    expect(decision.blockers.find(({ name }) => name === 'length-only-win')!.detail).toContain('only 0 prompts');
    // Equal length lies outside the data, and the interval says so.
    expect(decision.primary!.high - decision.primary!.low).toBeGreaterThan(0.3);
  });

  it('a judge that looks at places, and orders that are not balanced', () => {
    const placeLover = rejudged(good, ({ candidateFirst, outcome }) => (candidateFirst === true ? 1 : outcome));
    expect(blocked(decidePromotion(inputFor(placeLover)))).toEqual(['position-bias']);
    const alwaysFirst = good.map(({ groupId, comparisons }) => ({
      groupId,
      comparisons: comparisons.map((comparison) => ({ ...comparison, candidateFirst: true })),
    }));
    const decision = decidePromotion(inputFor(alwaysFirst));
    expect(blocked(decision)).toEqual(['position-bias']);
    expect(decision.reason).toContain('first in 100%');
  });

  it('a reward model that is pleased while people are not', () => {
    const rewardModelScores = drawPairs('reward', 150, 1.5);
    const hacked = decidePromotion(inputFor(flat, { blockers: { ...clear, rewardModelScores } }));
    expect(blocked(hacked)).toContain('reward-without-win');
    const honest = decidePromotion(inputFor(good, { blockers: { ...clear, rewardModelScores } }));
    expect(honest.decision).toBe('promoted');
  });

  it('tells the first of several reasons and how many more there are', () => {
    const blockers = { ...clear, leakedGroups: 2, openQuarantines: 5 };
    const decision = decidePromotion(inputFor(flat, { blockers, guards: [perplexityGuard(1.4)] }));
    expect(decision.reason).toMatch(
      /^Kept: 2 test groups are also in training or validation \(and \d more against it\)\.$/u,
    );
  });
});

describe('alpha spending over decisions', () => {
  const period = { quarter: '2026-Q4', testSplit: 'a', refreshedShare: 0, expectedDecisions: 4 };

  function decide(history: SpendingHistory | null, changes: Partial<typeof period> = {}): GateDecision {
    return decidePromotion(inputFor(good, { spending: { history, ...period, ...changes } }));
  }

  it('adds up to the total, then nothing is left', () => {
    let history: SpendingHistory | null = null;
    const decisions: GateDecision[] = [];
    for (let i = 0; i < 5; i++) {
      const decision = decide(history);
      decisions.push(decision);
      history = decision.spending.next;
    }
    const alphas = decisions.map(({ spending }) => spending.alpha);
    expect(alphas[0]).toBeLessThan(1e-4);
    expect(alphas.slice(0, 4).every((alpha, i) => i === 0 || alpha > alphas[i - 1]!)).toBe(true);
    expect(decisions[3]!.alphaSpent).toBeCloseTo(0.05, 12);
    expect(decisions[4]).toMatchObject({ decision: 'kept', keptBecause: 'alpha-spent' });
    expect(decisions[4]!.primary!.lowerBound).toBeNull();
  });

  it.each([
    ['a new quarter with the old split', { quarter: '2027-Q1' }, false],
    [
      'a new quarter with a split refreshed too little',
      { quarter: '2027-Q1', testSplit: 'b', refreshedShare: 0.49 },
      false,
    ],
    ['a refreshed split within the quarter', { testSplit: 'b', refreshedShare: 0.8 }, false],
    ['a new quarter with half of the split new', { quarter: '2027-Q1', testSplit: 'b', refreshedShare: 0.5 }, true],
  ])('%s', (_, changes, reset) => {
    const spent: SpendingHistory = { quarter: '2026-Q4', decisions: 4, alphaSpent: 0.05, testSplit: 'a' };
    const decision = decide(spent, changes);
    expect(decision.spending.reset).toBe(reset);
    expect(decision.decision).toBe(reset ? 'promoted' : 'kept');
    expect(decision.spending.next.quarter).toBe(reset ? '2027-Q1' : '2026-Q4');
  });
});

describe('an override', () => {
  it('names a person and a reason and leaves the numbers', () => {
    const kept = decidePromotion(inputFor(flat));
    const forced = overrideDecision(kept, 'Ada', 'customer asked for the new tone');
    expect(forced).toMatchObject({ decision: 'promoted', primary: kept.primary, keptBecause: 'no-clear-gain' });
    expect(forced.reason).toBe('Promoted by Ada: customer asked for the new tone');
    expect(forced.override).toMatchObject({ overruled: 'kept' });
    expect(() => overrideDecision(kept, ' ', 'x')).toThrow(RangeError);
    expect(() => overrideDecision(kept, 'Ada', '')).toThrow(RangeError);
  });
});
