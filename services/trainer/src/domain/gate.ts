/**
 * The promotion gate: may the candidate checkpoint serve in place of what the slot serves now? A pure function of
 * the evidence; docs/promotion-gate.md explains it to those who run it.
 *
 * Implemented: one primary metric per method (length-controlled win rate of fresh samples, task metric, held-out
 * preference accuracy, macro F1); paired differences averaged within test groups and resampled over groups by BCa;
 * at least 100 groups; alpha spending per slot and quarter with reset after a refresh of the test split; up to four
 * non-inferiority guards; all seven blockers; overrides. Left to the caller, who hands in counts and groups: finding
 * leaked groups and open quarantines, sampling, judging, measuring agreement. Not here: the A/B test in production
 * (its parts are confidenceSequence and sampleRatio in the metrics package), and guards whose value has no groups.
 */
import { DEFAULT_RESAMPLES } from '@tuneloop/metrics/bootstrap';
import type { BlockerEvidence, BlockerName, BlockerResult, Evaluator } from './gateBlockers.ts';
import { checkBlockers } from './gateBlockers.ts';
import type { Guard, GuardResult } from './gateGuards.ts';
import { checkGuards } from './gateGuards.ts';
import type { EvidenceNeed, PrimaryEvidence, PrimaryResult, TrainingMethod } from './gatePrimary.ts';
import { evidenceNeed, judgePrimary, requireSoundEvidence, resamplePrimary } from './gatePrimary.ts';
import type { SpendingInput, SpendingResult } from './gateSpending.ts';
import { planSpending, withoutTest } from './gateSpending.ts';

export interface GateInput {
  readonly method: TrainingMethod;
  readonly primary: PrimaryEvidence;
  readonly guards: readonly Guard[];
  readonly blockers: BlockerEvidence;
  readonly spending: SpendingInput;
  /** Default 10,000. */
  readonly resamples?: number;
  /** The same seed and evidence give the same decision. Default `promotion gate`. */
  readonly seed?: number | string;
}

export type KeptBecause = 'not-enough-evidence' | 'blocked' | 'alpha-spent' | 'no-clear-gain' | 'guard-failed';

export interface GateDecision {
  readonly decision: 'promoted' | 'kept';
  readonly keptBecause: KeptBecause | null;
  /** One sentence that a person can read. */
  readonly reason: string;
  readonly method: TrainingMethod;
  readonly evaluator: Evaluator['kind'] | 'scripted reviewer';
  /** Null when there was too little evidence to test. */
  readonly primary: PrimaryResult | null;
  readonly evidence: EvidenceNeed;
  readonly guards: readonly GuardResult[];
  readonly blockers: readonly BlockerResult[];
  readonly spending: SpendingResult;
  /** Error spent in the period, this decision included, of alphaTotal. */
  readonly alphaSpent: number;
  readonly alphaTotal: number;
  readonly seed: number | string;
  readonly override: Override | null;
}

export interface Override {
  readonly person: string;
  readonly reason: string;
  /** What the gate itself had decided. */
  readonly overruled: 'promoted' | 'kept';
}

/**
 * Decides. A test is made, and its level spent, whenever there are enough groups, even when a blocker or guard keeps
 * the candidate out: its result has been seen, and what is tried next may be chosen by it.
 *
 * @throws RangeError when the evidence does not fit the method, is malformed, or names a group twice
 */
export function decidePromotion(input: GateInput): GateDecision {
  const { method, primary, seed = 'promotion gate', resamples = DEFAULT_RESAMPLES } = input;
  requireSoundEvidence(method, primary);
  const plan = planSpending(input.spending);
  const evidence = evidenceNeed(primary, plan.alpha > 0 ? plan.alpha : plan.total);
  const { evaluator } = input.blockers;
  const shared = {
    method,
    evidence,
    seed,
    evaluator: evaluator.kind === 'human' && evaluator.scripted === true ? 'scripted reviewer' : evaluator.kind,
    alphaTotal: plan.total,
    override: null,
  } as const;
  if (evidence.groups < evidence.minimumGroups) {
    const spending = withoutTest(plan);
    const needed = `${evidence.groups} test groups of at least ${evidence.minimumGroups}`;
    return {
      ...shared,
      decision: 'kept',
      keptBecause: 'not-enough-evidence',
      reason: `Kept: not enough evidence, about ${evidence.moreGroups} more test groups are needed (${needed}).`,
      primary: null,
      guards: [],
      blockers: [],
      spending,
      alphaSpent: spending.spentAfter,
    };
  }
  const distribution = resamplePrimary(primary, { seed, resamples });
  const result = judgePrimary(primary, distribution, plan.alpha);
  const guards = checkGuards(input.guards, { seed, resamples });
  const blockers = checkBlockers(input.blockers, primary, distribution, { seed, resamples });
  const verdict = weigh(result, guards, blockers, evidence);
  return { ...shared, ...verdict, primary: result, guards, blockers, spending: plan, alphaSpent: plan.spentAfter };
}

/**
 * A person decides otherwise. The gate's own numbers stay as they were.
 *
 * @throws RangeError without a person or a reason
 */
export function overrideDecision(decision: GateDecision, person: string, reason: string): GateDecision {
  if (person.trim() === '' || reason.trim() === '') throw new RangeError('an override names a person and a reason');
  const changed = decision.decision === 'promoted' ? 'kept' : 'promoted';
  return {
    ...decision,
    decision: changed,
    reason: `${changed === 'promoted' ? 'Promoted' : 'Kept'} by ${person}: ${reason}`,
    override: { person, reason, overruled: decision.decision },
  };
}

interface Verdict {
  readonly decision: 'promoted' | 'kept';
  readonly keptBecause: KeptBecause | null;
  readonly reason: string;
}

/** Blockers that put a win in another light; the others put the numbers themselves in doubt. */
const EXPLAINS_A_WIN: readonly BlockerName[] = ['length-only-win', 'reward-without-win'];

/** First what puts the numbers in doubt, then the numbers, then what explains a win away, then what it costs. */
function weigh(
  primary: PrimaryResult,
  guards: readonly GuardResult[],
  blockers: readonly BlockerResult[],
  evidence: EvidenceNeed,
): Verdict {
  const blocked = blockers
    .filter(({ status }) => status === 'blocked')
    .map(({ name, detail }) => ({ name, because: 'blocked' as const, clause: detail }));
  const against: { because: KeptBecause; clause: string }[] = blocked.filter(
    ({ name }) => !EXPLAINS_A_WIN.includes(name),
  );
  if (primary.alpha === 0) {
    against.push({ because: 'alpha-spent', clause: `no error is left to spend this quarter; ${describe(primary)}` });
  } else if (!primary.passed) {
    against.push({ because: 'no-clear-gain', clause: shortfall(primary, evidence) });
  }
  against.push(...blocked.filter(({ name }) => EXPLAINS_A_WIN.includes(name)));
  for (const guard of guards) if (!guard.held) against.push({ because: 'guard-failed', clause: guard.detail });
  const first = against[0];
  if (first === undefined) {
    const held =
      guards.length === 0 ? '' : `, and ${guards.length === 1 ? 'the guard' : `all ${guards.length} guards`} held`;
    return { decision: 'promoted', keptBecause: null, reason: `Promoted: ${describe(primary)}${held}.` };
  }
  const others = against.length === 1 ? '' : ` (and ${against.length - 1} more against it)`;
  return { decision: 'kept', keptBecause: first.because, reason: `Kept: ${first.clause}${others}.` };
}

function describe(primary: PrimaryResult): string {
  const { name, value, low, high, n, lowerBound, alpha, threshold } = primary;
  const measured = `${name} ${value.toFixed(3)} (95% interval ${low.toFixed(3)} to ${high.toFixed(3)}) over ${n} test groups`;
  if (lowerBound === null) return measured;
  const relation = lowerBound > threshold ? 'above' : 'not above';
  return `${measured}, lower bound ${lowerBound.toFixed(3)} at level ${alpha.toPrecision(2)} ${relation} ${threshold}`;
}

function shortfall(primary: PrimaryResult, evidence: EvidenceNeed): string {
  if (evidence.moreGroups === 0) return describe(primary);
  const planned = (primary.threshold + evidence.plannedEffect).toFixed(2);
  return `${describe(primary)}; about ${evidence.moreGroups} more test groups would show a ${primary.name} of ${planned}`;
}
