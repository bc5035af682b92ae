import { createRandom, gaussian, integerBelow, uniform } from '@tuneloop/metrics/random';
import type { Comparison, ComparisonGroup } from '@tuneloop/metrics/winRate';
import type { GateInput } from '../src/domain/gate.ts';

export interface Scenario {
  readonly seed: string;
  readonly groups: number;
  readonly comparisonsPerGroup: number;
  /** Mean probability that the candidate wins, at equal length. */
  readonly winRate: number;
  /** Half-width of the prompts' own win probabilities around the mean; drawn from promptSeed, so they may persist. */
  readonly promptSpread?: number;
  readonly promptSeed?: string;
  readonly tieRate?: number;
}

/** Fresh comparisons of two models whose answers differ in length at random, seven words more or less. */
export function drawComparisons(scenario: Scenario): ComparisonGroup[] {
  const { seed, groups, comparisonsPerGroup, winRate, promptSpread = 0.2, promptSeed = seed, tieRate = 0.1 } = scenario;
  const random = createRandom(seed);
  const prompts = createRandom(`prompts of ${promptSeed}`);
  return Array.from({ length: groups }, (_, g) => {
    const chance = winRate + promptSpread * (2 * uniform(prompts) - 1);
    return {
      groupId: `prompt ${g}`,
      comparisons: Array.from({ length: comparisonsPerGroup }, (): Comparison => {
        const tie = uniform(random) < tieRate;
        const won = uniform(random) < (chance - tieRate / 2) / (1 - tieRate) ? 1 : 0;
        return {
          outcome: tie ? 0.5 : won,
          candidateLength: 12 + integerBelow(random, 8),
          baselineLength: 12 + integerBelow(random, 8),
          candidateFirst: uniform(random) < 0.5,
        };
      }),
    };
  });
}

/** The null control: which answer was the candidate's is drawn anew for every comparison. */
export function shuffleSides(groups: readonly ComparisonGroup[], seed: string): ComparisonGroup[] {
  const random = createRandom(seed);
  return groups.map(({ groupId, comparisons }) => ({
    groupId,
    comparisons: comparisons.map((comparison) => {
      if (uniform(random) < 0.5) return comparison;
      const { outcome, candidateLength, baselineLength, candidateFirst } = comparison;
      return {
        outcome: 1 - outcome,
        candidateLength: baselineLength,
        baselineLength: candidateLength,
        candidateFirst: candidateFirst !== true,
      };
    }),
  }));
}

/** Paired values around 1 with the given relative worsening of the candidate. */
export function drawPairs(seed: string, groups: number, candidateMean: number, deviation = 0.05) {
  const random = createRandom(seed);
  return Array.from({ length: groups }, (_, g) => ({
    groupId: `text ${g}`,
    candidate: [candidateMean + deviation * gaussian(random)],
    baseline: [1 + deviation * gaussian(random)],
  }));
}

/** A gate input with nothing against it but the comparisons: people judged, one decision is planned this quarter. */
export function inputFor(groups: readonly ComparisonGroup[], changes: Partial<GateInput> = {}): GateInput {
  return {
    method: 'dpo',
    primary: { kind: 'winRate', groups },
    guards: [],
    blockers: { evaluator: { kind: 'human' }, leakedGroups: 0, openQuarantines: 0 },
    spending: { history: null, quarter: '2026-Q4', testSplit: 'split 1', refreshedShare: 0, expectedDecisions: 1 },
    resamples: 2000,
    ...changes,
  };
}
