import { decidePromotion } from '../src/domain/gate.ts';
import type { SpendingHistory } from '../src/domain/gateSpending.ts';
import type { Scenario } from './gateEvidence.ts';
import { drawComparisons, inputFor, shuffleSides } from './gateEvidence.ts';

const DAYS_PER_QUARTER = 90;

/**
 * Upper limit for a count of `runs` independent events of probability at most `level`: the mean and 3.09 standard
 * deviations. A binomial count passes it in about one of 1,000 cases, or one of 400 where the mean is as small as
 * 1 and the count skewed. Seeds are fixed, so a run that passes keeps passing.
 */
export function binomialLimit(runs: number, level: number): number {
  return Math.floor(runs * level + 3.09 * Math.sqrt(runs * level * (1 - level)));
}

/**
 * Quarters in which at least one of 90 daily candidates was promoted although none differs from what serves. The
 * prompts, and how each leans, stay the same all quarter: decisions depend on each other as real ones do. Without
 * `spend` every day is tested at the whole 5%, as if it were the only one.
 */
export function countQuartersPromoted(
  quarters: number,
  options: { readonly groups: number; readonly resamples: number; readonly spend: boolean },
): number {
  const { groups, resamples, spend } = options;
  let promotedQuarters = 0;
  for (let quarter = 0; quarter < quarters; quarter++) {
    let history: SpendingHistory | null = null;
    let promoted = false;
    for (let day = 0; day < DAYS_PER_QUARTER && !promoted; day++) {
      const seed = `quarter ${quarter} day ${day}`;
      const promptSeed = `quarter ${quarter}`;
      const comparisons = drawComparisons({ seed, groups, comparisonsPerGroup: 1, winRate: 0.5, promptSeed });
      const expectedDecisions = spend ? DAYS_PER_QUARTER : 1;
      const period = { quarter: '2026-Q4', testSplit: 'split', refreshedShare: 0, expectedDecisions };
      const decision = decidePromotion(inputFor(comparisons, { spending: { history, ...period }, resamples, seed }));
      history = spend ? decision.spending.next : null;
      promoted = decision.decision === 'promoted';
    }
    if (promoted) promotedQuarters++;
  }
  return promotedQuarters;
}

export interface RunOptions {
  readonly runs: number;
  readonly resamples: number;
  readonly expectedDecisions: number;
  readonly shuffled?: boolean;
}

/** How many of so many slots promote at their first decision. */
export function countPromoted(scenario: Omit<Scenario, 'seed'>, options: RunOptions): number {
  const { runs, resamples, expectedDecisions, shuffled = false } = options;
  let promoted = 0;
  for (let run = 0; run < runs; run++) {
    const seed = `run ${run}`;
    const drawn = drawComparisons({ ...scenario, seed });
    const comparisons = shuffled ? shuffleSides(drawn, `shuffle ${run}`) : drawn;
    const period = { quarter: '2026-Q4', testSplit: 'split', refreshedShare: 0, expectedDecisions };
    const input = inputFor(comparisons, { spending: { history: null, ...period }, resamples, seed });
    if (decidePromotion(input).decision === 'promoted') promoted++;
  }
  return promoted;
}
