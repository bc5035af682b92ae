/** One question to a judge: one answer to score, or two to compare. */
export interface JudgeItem {
  readonly key: string;
  readonly prompt: string;
  readonly facts: Readonly<Record<string, string>> | null;
  readonly answers: readonly string[];
}

export interface Verdict {
  readonly key: string;
  /** Per answer, in [-1, 1]. */
  readonly scores: number[];
  /** 1: the first answer won, 0: the second, 0.5: tie. Null with one answer. */
  readonly outcome: number | null;
  readonly details: Record<string, number>[];
}

/** Whoever scores answers in the place of a person. The same seed and item get the same verdict. */
export interface Judge {
  readonly kind: string;
  readonly name: string;
  judge(items: readonly JudgeItem[], seed: number): Promise<Verdict[]>;
}
