import { describe, expect, it } from 'vitest';
import { binomialLimit, countPromoted, countQuartersPromoted } from './gateSimulation.ts';

const MINUTES = 60_000;

describe('the promotion gate by long simulation', () => {
  it('promotes in at most 5% of quarters of daily decisions when nothing differs', { timeout: 20 * MINUTES }, () => {
    const promoted = countQuartersPromoted(400, { groups: 100, resamples: 1000, spend: true });
    expect(promoted).toBeLessThanOrEqual(binomialLimit(400, 0.05));
  });

  it.each([1, 4])(
    'shuffled labels at decision one of %i: at most 5%',
    { timeout: 20 * MINUTES },
    (expectedDecisions) => {
      const scenario = { groups: 100, comparisonsPerGroup: 4, winRate: 0.7 };
      const promoted = countPromoted(scenario, { runs: 4000, resamples: 2000, expectedDecisions, shuffled: true });
      expect(promoted).toBeLessThanOrEqual(binomialLimit(4000, 0.05));
    },
  );

  it('one comparison per group and no difference: at most 5%', { timeout: 20 * MINUTES }, () => {
    const scenario = { groups: 100, comparisonsPerGroup: 1, winRate: 0.5 };
    const promoted = countPromoted(scenario, { runs: 4000, resamples: 2000, expectedDecisions: 1 });
    expect(promoted).toBeLessThanOrEqual(binomialLimit(4000, 0.05));
  });

  it('finds a win rate of 0.6 with 200 groups in at least 80% of runs', { timeout: 20 * MINUTES }, () => {
    const scenario = { groups: 200, comparisonsPerGroup: 1, winRate: 0.6 };
    const promoted = countPromoted(scenario, { runs: 2000, resamples: 2000, expectedDecisions: 1 });
    expect(promoted).toBeGreaterThanOrEqual(1600);
  });
});
