interface Fact {
  readonly label: string;
  readonly value: string;
}

export interface PromptText {
  /** What was given: lines such as `Colour: red`. */
  readonly facts: readonly Fact[];
  /** What was asked, in words. */
  readonly text: string;
}

const FACT = /^\s*([\p{Lu}][\p{L} ]{0,24}):\s+(\S.{0,199})$/u;
/** One such line may as well be a sentence with a colon. */
const FEWEST_FACTS = 2;

/** Takes a prompt apart as a person reads it. Prompts made from pictures are mostly facts, one a line. */
export function readPrompt(prompt: string): PromptText {
  const lines = prompt.trim().split(/\r?\n/);
  const facts = lines.flatMap((line) => {
    const [, label, value] = FACT.exec(line) ?? [];
    return label === undefined || value === undefined ? [] : [{ label, value: value.trim() }];
  });
  if (facts.length < FEWEST_FACTS) return { facts: [], text: prompt.trim() };
  const text = lines.filter((line) => !FACT.test(line)).join('\n');
  return { facts, text: text.trim() };
}
