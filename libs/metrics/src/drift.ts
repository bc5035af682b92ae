export type DriftDirection = 'up' | 'down';

export interface CusumOptions {
  /** Mean and standard deviation of the baseline window. */
  readonly mean: number;
  readonly standardDeviation: number;
  /** Slack k in standard deviations: half of the smallest shift worth finding. Default 0.25. */
  readonly slack?: number;
  /** Decision limit h in standard deviations. Default 10. */
  readonly limit?: number;
}

/** Plain data: it may be stored and taken up again. */
export interface Cusum {
  readonly options: Required<CusumOptions>;
  readonly n: number;
  readonly up: number;
  readonly down: number;
  readonly drifted: DriftDirection | null;
}

export interface PageHinkleyOptions {
  /** Change of the mean that is tolerated, in units of the observations. Default 0.005. */
  readonly delta?: number;
  /** Limit lambda of the cumulated deviation. Default 50. */
  readonly threshold?: number;
  /** No alarm before this many observations. Default 30. */
  readonly minObservations?: number;
}

/** Plain data: it may be stored and taken up again. */
export interface PageHinkley {
  readonly options: Required<PageHinkleyOptions>;
  readonly n: number;
  readonly mean: number;
  readonly up: number;
  readonly lowestUp: number;
  readonly down: number;
  readonly highestDown: number;
  readonly drifted: DriftDirection | null;
}

/**
 * Two-sided tabular CUSUM (Page 1954) against a known baseline. With the defaults one false alarm comes about every
 * 1,000 observations (2,000 per side), and a shift of half a standard deviation is found after about 37; the test
 * beside this file measures both.
 */
export function startCusum(options: CusumOptions): Cusum {
  const { mean, standardDeviation, slack = 0.25, limit = 10 } = options;
  if (!(standardDeviation > 0) || !(slack >= 0) || !(limit > 0)) {
    throw new RangeError(`CUSUM needs a positive deviation and limit: ${standardDeviation}, ${slack}, ${limit}`);
  }
  return { options: { mean, standardDeviation, slack, limit }, n: 0, up: 0, down: 0, drifted: null };
}

/** Takes in one observation. Once drifted, the state stays so until started anew. */
export function cusum(state: Cusum, observation: number): Cusum {
  if (state.drifted !== null) return state;
  const { mean, standardDeviation, slack, limit } = state.options;
  const z = (observation - mean) / standardDeviation;
  const up = Math.max(0, state.up + z - slack);
  const down = Math.max(0, state.down - z - slack);
  return { options: state.options, n: state.n + 1, up, down, drifted: directionOf(up > limit, down > limit) };
}

/** Page-Hinkley test (Page 1954, Hinkley 1971) for a change of the mean when no baseline is known beforehand. */
export function startPageHinkley(options: PageHinkleyOptions = {}): PageHinkley {
  const { delta = 0.005, threshold = 50, minObservations = 30 } = options;
  if (!(delta >= 0) || !(threshold > 0)) throw new RangeError(`Page-Hinkley: ${delta}, ${threshold}`);
  const sums = { up: 0, lowestUp: 0, down: 0, highestDown: 0 };
  return { options: { delta, threshold, minObservations }, n: 0, mean: 0, ...sums, drifted: null };
}

/** Takes in one observation. Once drifted, the state stays so until started anew. */
export function pageHinkley(state: PageHinkley, observation: number): PageHinkley {
  if (state.drifted !== null) return state;
  const { delta, threshold, minObservations } = state.options;
  const n = state.n + 1;
  const mean = state.mean + (observation - state.mean) / n;
  const up = state.up + observation - mean - delta;
  const down = state.down + observation - mean + delta;
  const lowestUp = state.n === 0 ? up : Math.min(state.lowestUp, up);
  const highestDown = state.n === 0 ? down : Math.max(state.highestDown, down);
  const armed = n >= minObservations;
  const drifted = directionOf(armed && up - lowestUp > threshold, armed && highestDown - down > threshold);
  return { options: state.options, n, mean, up, lowestUp, down, highestDown, drifted };
}

function directionOf(up: boolean, down: boolean): DriftDirection | null {
  if (down) return 'down'; // a fall matters more than a rise found at the same moment
  return up ? 'up' : null;
}
