/** A metric with its 95% interval and the number of groups (prompts) behind it. */
export interface Metric {
  readonly value: number;
  readonly low: number | null;
  readonly high: number | null;
  readonly n: number;
}

/** What one turn of the loop came to; written by `--report`. */
export interface TurnReport {
  readonly seed: number;
  readonly taste: string;
  readonly labels: 'true' | 'shuffled';
  readonly counts: {
    readonly images: number;
    readonly prompts: number;
    readonly responses: number;
    readonly feedback: number;
    readonly rewards: number;
    readonly preferences: number;
  };
  readonly dataset: {
    readonly id: string;
    readonly hash: string;
    readonly splits: { readonly train: number; readonly validation: number; readonly test: number };
    readonly testGroups: number;
  };
  readonly job: {
    readonly id: string;
    readonly steps: number;
    readonly firstLoss: number | null;
    readonly lastLoss: number | null;
    readonly tokensPerSecond: number | null;
    readonly peakMemoryMb: number | null;
  };
  readonly evaluation: {
    readonly before: Readonly<Record<string, Metric>>;
    readonly after: Readonly<Record<string, Metric>>;
  };
  readonly gate: Readonly<Record<string, unknown>> & {
    readonly decision: 'promoted' | 'kept';
    readonly reason: string;
  };
  /** Checkpoint that serves the slot after the turn; null for the base. */
  readonly activeCheckpoint: string | null;
  readonly runId: string;
  readonly seconds: Readonly<Record<string, number>>;
}
