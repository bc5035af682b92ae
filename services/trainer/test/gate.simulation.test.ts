import { describe, expect, it } from 'vitest';
import { binomialLimit, countPromoted, countQuartersPromoted } from './gateSimulation.ts';

// The long versions, with narrower limits, are in gate.simulation.nightly.ts.
describe('the promotion gate by simulation', () => {
  it('promotes in at most 5% of quarters of daily decisions when nothing differs', () => {
    const promoted = countQuartersPromoted(20, { groups: 100, resamples: 200, spend: true });
    expect(promoted).toBeLessThanOrEqual(binomialLimit(20, 0.05));
  });

  // Ninety tests at 5% each would promote in nearly every quarter: the simulation sees what spending prevents.
  it('would promote in most quarters without alpha spending', () => {
    const promoted = countQuartersPromoted(10, { groups: 100, resamples: 200, spend: false });
    expect(promoted).toBeGreaterThan(binomialLimit(10, 0.05) + 2);
  });

  // About 0.9 in truth; 100 runs estimate it to 0.03, so an estimate of 0.8 or more is expected with certainty.
  it('finds a win rate of 0.6 with 200 groups of one comparison in at least 80% of runs', () => {
    const scenario = { groups: 200, comparisonsPerGroup: 1, winRate: 0.6 };
    expect(countPromoted(scenario, { runs: 100, resamples: 500, expectedDecisions: 1 })).toBeGreaterThanOrEqual(80);
  });

  it('finds it with four comparisons a group at the first of four decisions, the strictest of them', () => {
    const scenario = { groups: 200, comparisonsPerGroup: 4, winRate: 0.6 };
    expect(countPromoted(scenario, { runs: 100, resamples: 500, expectedDecisions: 4 })).toBeGreaterThanOrEqual(80);
  });

  it('promotes a good candidate in at most 5% of runs once the labels are shuffled', () => {
    const scenario = { groups: 100, comparisonsPerGroup: 4, winRate: 0.7 };
    const promoted = countPromoted(scenario, { runs: 200, resamples: 500, expectedDecisions: 1, shuffled: true });
    expect(promoted).toBeLessThanOrEqual(binomialLimit(200, 0.05));
    expect(countPromoted(scenario, { runs: 20, resamples: 500, expectedDecisions: 1 })).toBe(20);
  });
});
