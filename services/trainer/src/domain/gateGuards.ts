import type { PairedGroup } from '@tuneloop/metrics/bootstrap';
import { groupDifferences, lowerBound, resampleMean, upperBound } from '@tuneloop/metrics/bootstrap';
import { mean } from '@tuneloop/metrics/stats';

/** A metric that the candidate may not worsen by more than the margin. */
export interface Guard {
  readonly name: string;
  readonly higherIsBetter: boolean;
  /** `difference`: candidate minus baseline; `ratio`: candidate over baseline, the margin a share (0.15 is 15%). */
  readonly scale: 'difference' | 'ratio';
  /** Greatest worsening allowed, positive. */
  readonly margin: number;
  /** One entry per independent unit: a prompt, a text, a regression case. */
  readonly groups: readonly PairedGroup[];
}

export interface GuardResult {
  readonly name: string;
  readonly held: boolean;
  /** Difference or ratio; null without any groups. */
  readonly value: number | null;
  /** One-sided 95% bound on the worse side; null with too few groups. */
  readonly bound: number | null;
  /** What the bound may not reach. */
  readonly limit: number;
  readonly n: number;
  readonly detail: string;
}

export const MAX_GUARDS = 4;
/** Fewer units than this cannot show that nothing got worse. */
export const MIN_GUARD_GROUPS = 10;
const GUARD_ALPHA = 0.05;

/** Non-inferiority of each guard at 95%, one-sided. All must hold, so no correction for their number is due. */
export function checkGuards(
  guards: readonly Guard[],
  options: { readonly seed: number | string; readonly resamples: number },
): GuardResult[] {
  if (guards.length > MAX_GUARDS) throw new RangeError(`at most ${MAX_GUARDS} guards, got ${guards.length}`);
  return guards.map((guard) => checkGuard(guard, options));
}

function checkGuard(
  guard: Guard,
  options: { readonly seed: number | string; readonly resamples: number },
): GuardResult {
  const { name, higherIsBetter, scale, margin, groups } = guard;
  if (!(margin > 0) || (scale === 'ratio' && higherIsBetter && margin >= 1)) {
    throw new RangeError(`guard ${name}: margin ${margin} allows nothing or everything`);
  }
  const values = scale === 'ratio' ? logRatios(guard) : groupDifferences(groups);
  const back = (x: number): number => (scale === 'ratio' ? Math.exp(x) : x);
  const limit = (scale === 'ratio' ? 1 : 0) + (higherIsBetter ? -margin : margin);
  const shared = { name, limit, n: groups.length };
  if (groups.length < MIN_GUARD_GROUPS) {
    const value = groups.length === 0 ? null : back(mean(values));
    const detail = `${name}: ${groups.length} measurements, at least ${MIN_GUARD_GROUPS} are needed`;
    return { ...shared, held: false, value, bound: null, detail };
  }
  const distribution = resampleMean(values, options);
  const bound = back((higherIsBetter ? lowerBound : upperBound)(distribution, GUARD_ALPHA, { smallSample: true }));
  const held = higherIsBetter ? bound > limit : bound < limit;
  const word = scale === 'ratio' ? 'ratio' : 'difference';
  const detail = `${name}: ${word} ${back(distribution.value).toFixed(3)}, 95% bound ${bound.toFixed(3)}, limit ${limit.toFixed(3)}`;
  return { ...shared, held, value: back(distribution.value), bound, detail };
}

function logRatios({ name, groups }: Guard): Float64Array {
  return Float64Array.from(groups, (group) => {
    const ratio = mean(group.candidate) / mean(group.baseline);
    if (!(ratio > 0 && Number.isFinite(ratio))) throw new RangeError(`guard ${name}: a ratio needs positive values`);
    return Math.log(ratio);
  });
}
