export interface ConfidenceSequenceOptions {
  /** Bounds that no observation can leave. Defaults -1 and 1, the range of a difference of two rates. */
  readonly low?: number;
  readonly high?: number;
  /** Error of the two-sided sequence over all times together. Default 0.05; twice the wanted one-sided error. */
  readonly alpha?: number;
}

/** Plain data: it may be stored and taken up again. Scaled so that `low` is 0 and `high` is 1. */
export interface ConfidenceSequence {
  readonly low: number;
  readonly high: number;
  readonly alpha: number;
  readonly n: number;
  readonly sum: number;
  /** Squared distances of the observations to the running mean that included them. */
  readonly squares: number;
  readonly sumBets: number;
  readonly sumBetObservations: number;
  readonly sumPenalties: number;
  /** The tightest bounds so far. */
  readonly lower: number;
  readonly upper: number;
}

export interface SequenceInterval {
  /** Plain mean of the observations; the middle of the range before the first. */
  readonly value: number;
  readonly low: number;
  readonly high: number;
  readonly n: number;
}

/** Bets stay under this, away from the pole at 1. */
const MAX_BET = 0.5;

/** An always-valid interval for a mean, before its first observation. */
export function startConfidenceSequence(options: ConfidenceSequenceOptions = {}): ConfidenceSequence {
  const { low = -1, high = 1, alpha = 0.05 } = options;
  if (!(low < high) || !(alpha > 0 && alpha < 1)) throw new RangeError(`bad sequence: ${low}, ${high}, ${alpha}`);
  const sums = { n: 0, sum: 0, squares: 0, sumBets: 0, sumBetObservations: 0, sumPenalties: 0 };
  return { low, high, alpha, ...sums, lower: 0, upper: 1 };
}

/**
 * Takes in one observation. The predictable plug-in empirical-Bernstein sequence of Waudby-Smith and Ramdas (2024,
 * "Estimating means of bounded random variables by betting", theorem 2): at a true mean that does not change, the
 * chance that the interval ever misses it is at most alpha, so one may look after every observation and stop at will.
 * Observations may depend on the past as long as their conditional mean stays the same.
 */
export function observe(state: ConfidenceSequence, observation: number): ConfidenceSequence {
  const { low, high, alpha } = state;
  if (!(observation >= low && observation <= high)) throw new RangeError(`${observation} not in [${low}, ${high}]`);
  const x = (observation - low) / (high - low);
  const n = state.n + 1;
  const budget = Math.log(2 / alpha);
  const previousMean = (0.5 + state.sum) / n;
  const previousVariance = (0.25 + state.squares) / n;
  const bet = Math.min(MAX_BET, Math.sqrt((2 * budget) / (previousVariance * n * Math.log(1 + n))));
  const sum = state.sum + x;
  const sumBets = state.sumBets + bet;
  const sumBetObservations = state.sumBetObservations + bet * x;
  const sumPenalties = state.sumPenalties + (x - previousMean) ** 2 * (-Math.log1p(-bet) - bet);
  const centre = sumBetObservations / sumBets;
  const radius = (budget + sumPenalties) / sumBets;
  return {
    ...state,
    n,
    sum,
    squares: state.squares + (x - (0.5 + sum) / (n + 1)) ** 2,
    sumBets,
    sumBetObservations,
    sumPenalties,
    lower: Math.max(state.lower, centre - radius),
    upper: Math.min(state.upper, centre + radius),
  };
}

/** The interval so far, on the scale of the observations. Low above high means that the mean has moved. */
export function currentInterval(state: ConfidenceSequence): SequenceInterval {
  const scale = state.high - state.low;
  return {
    value: state.low + scale * (state.n === 0 ? 0.5 : state.sum / state.n),
    low: state.low + scale * state.lower,
    high: state.low + scale * state.upper,
    n: state.n,
  };
}

/**
 * One user's outcome in an A/B test as an unbiased observation of `mean(candidate) - mean(baseline)`, in [-1, 1] when
 * both arms are equally likely: inverse-probability weighting of the outcome's distance to one half.
 *
 * @param outcome in [0, 1]
 * @param toCandidate the arm of this user
 * @param candidateShare probability of the candidate arm, in (0, 1); the range of the result is
 *   +-0.5 / min(share, 1 - share)
 */
export function armDifference(outcome: number, toCandidate: boolean, candidateShare = 0.5): number {
  if (!(outcome >= 0 && outcome <= 1) || !(candidateShare > 0 && candidateShare < 1)) {
    throw new RangeError(`outcome in [0, 1] and share in (0, 1) needed: ${outcome}, ${candidateShare}`);
  }
  return toCandidate ? (outcome - 0.5) / candidateShare : -(outcome - 0.5) / (1 - candidateShare);
}
