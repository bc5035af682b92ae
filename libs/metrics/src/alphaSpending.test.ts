import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SpendingFunction } from './alphaSpending.ts';
import { cumulativeAlpha, nextAlpha } from './alphaSpending.ts';

const FUNCTIONS: readonly SpendingFunction[] = ['obrien-fleming', 'pocock', 'linear'];

function quarter(spending: SpendingFunction, expectedDecisions: number, decisions: number): number[] {
  const alphas: number[] = [];
  let alphaSpent = 0;
  for (let decisionsMade = 0; decisionsMade < decisions; decisionsMade++) {
    const step = nextAlpha({ spending, total: 0.05, expectedDecisions, decisionsMade, alphaSpent });
    alphas.push(step.alpha);
    alphaSpent = step.spentAfter;
  }
  return alphas;
}

describe('alpha spending', () => {
  it('matches the formula evaluated by scipy', () => {
    // python -c "from scipy.stats import norm; print([2*norm.cdf(norm.ppf(.0125)/t**.5) for t in (.2,.4,.6,.8,1)])"
    const expected = [5.388712629058749e-7, 0.00039415175669118635, 0.003808063310989328, 0.012211790346448084, 0.025];
    [0.2, 0.4, 0.6, 0.8, 1].forEach((t, i) => {
      expect(cumulativeAlpha('obrien-fleming', t, 0.025) / expected[i]!).toBeCloseTo(1, 9);
    });
    expect(cumulativeAlpha('pocock', 0.5, 0.05)).toBeCloseTo(0.05 * Math.log(1 + (Math.E - 1) / 2), 12);
    expect(cumulativeAlpha('linear', 0.25, 0.05)).toBeCloseTo(0.0125, 12);
  });

  it.each(FUNCTIONS)('%s never spends more than the total, however many decisions come', (spending) => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 120 }), fc.integer({ min: 0, max: 200 }), (expected, decisions) => {
        const alphas = quarter(spending, expected, decisions);
        const sum = alphas.reduce((total, alpha) => total + alpha, 0);
        expect(alphas.every((alpha) => alpha >= 0)).toBe(true);
        expect(sum).toBeLessThanOrEqual(0.05 + 1e-12);
        expect(decisions < expected || Math.abs(sum - 0.05) < 1e-12).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it('O Brien-Fleming keeps most for the end; nothing is left afterwards', () => {
    const alphas = quarter('obrien-fleming', 4, 6);
    expect(alphas[0]).toBeLessThan(1e-4);
    expect(alphas[3]).toBeGreaterThan(0.02);
    expect(alphas.slice(4)).toEqual([0, 0]);
  });

  it('a single decision gets all', () => {
    expect(quarter('obrien-fleming', 1, 1)[0]).toBeCloseTo(0.05, 12);
  });

  it('refuses nonsense', () => {
    expect(() => cumulativeAlpha('linear', 0.5, 0)).toThrow(RangeError);
    const request = { spending: 'linear', total: 0.05, decisionsMade: 0, alphaSpent: 0 } as const;
    expect(() => nextAlpha({ ...request, expectedDecisions: 0 })).toThrow(RangeError);
    expect(() => nextAlpha({ ...request, expectedDecisions: 3, alphaSpent: -1 })).toThrow(RangeError);
  });
});
