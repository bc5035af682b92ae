import type { DatasetValidation, ValidationFinding } from '@tuneloop/contracts/datasets/http';

/** Longest list of ids or lines that a finding names. */
export const MAX_NAMED = 10;

/** Code of the finding that names lines of a file that were held back from training. */
export const HELD_BACK = 'held_back';

const SKIP_REASONS: Readonly<Record<string, (count: number) => string>> = {
  empty_answer: (n) => `${n} had an empty answer and were left out.`,
  same_answers: (n) => `${n} preferred an answer over the same text and were left out.`,
  other_prompt: (n) => `${n} compared answers to different prompts and were left out.`,
  over_cap: (n) => `${n} were more than a prompt may give and were left out.`,
  incomplete: (n) => `${n} concerned answers whose whole text could not be had and were left out.`,
  flagged: (n) => `${n} chunks try to steer the model that reads them and were left out.`,
  low_quality: (n) => `${n} chunks are of too little quality and were left out.`,
  duplicate_chunk: (n) => `${n} chunks repeat an earlier one and were left out.`,
  ambiguous_prompt: (n) => `${n} were asked in the words of another question with another answer and were left out.`,
  unread_document: (n) => `${n} documents could not be read and were left out.`,
};

export interface FrozenFacts {
  readonly skipped: readonly {
    readonly reason: string;
    readonly count: number;
    readonly examples: readonly string[];
  }[];
  readonly duplicates: number;
  readonly duplicateIds: readonly string[];
  /** Lines of a training file that were left out because their prompts are in the test split. */
  readonly heldBack?: readonly number[];
  readonly leaks: { readonly count: number; readonly groups: readonly string[] };
  /** Sentences on what may be missing. */
  readonly missed: readonly string[];
  readonly missingAnswers: number;
  readonly stats: DatasetValidation['stats'];
}

/** What the validation of a version made of feedback says. Errors stand for a version that must not be used. */
export function validateFrozen(facts: FrozenFacts): DatasetValidation {
  const errors: ValidationFinding[] = [];
  const warnings: ValidationFinding[] = facts.skipped.map((skip) => ({
    code: skip.reason,
    message: SKIP_REASONS[skip.reason]?.(skip.count) ?? `${skip.count} were left out.`,
    count: skip.count,
    examples: skip.examples.slice(0, MAX_NAMED),
  }));
  if (facts.leaks.count > 0) {
    errors.push({
      code: 'leakage',
      message: `${facts.leaks.count} groups lie in more than one split.`,
      count: facts.leaks.count,
      examples: facts.leaks.groups.slice(0, MAX_NAMED),
    });
  }
  const heldBack = facts.heldBack ?? [];
  if (heldBack.length > 0) {
    warnings.push({
      code: HELD_BACK,
      message: `${heldBack.length} lines have prompts of the project's test split, which is never trained on, and were left out.`,
      count: heldBack.length,
      examples: heldBack.slice(0, MAX_NAMED).map(String),
    });
  }
  if (facts.duplicates > 0) {
    warnings.push({
      code: 'duplicates',
      message: `${facts.duplicates} examples repeat the texts of another.`,
      count: facts.duplicates,
      examples: facts.duplicateIds.slice(0, MAX_NAMED),
    });
  }
  if (facts.missingAnswers > 0) {
    const message = `At least ${facts.missingAnswers} answers that feedback names could not be had.`;
    warnings.push({ code: 'missing_answers', message, count: facts.missingAnswers, examples: [] });
  }
  for (const message of facts.missed) warnings.push({ code: 'newest_feedback', message, count: 1, examples: [] });
  return { errors, warnings, stats: facts.stats };
}
