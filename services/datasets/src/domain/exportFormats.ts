import type { ExportFormat } from '@tuneloop/contracts/datasets/http';
import type { ExampleRow } from '@tuneloop/contracts/datasets/internal';
import { textOf } from './prompts.ts';

type Kind = 'sft' | 'dpo';
type Line = (row: ExampleRow) => Record<string, unknown>;

function answer(content: string) {
  return [{ role: 'assistant', content }];
}

/** The prompt as a text; only for examples whose context is one message of text. */
function plainPrompt(row: ExampleRow): string {
  return (row.messages[0] && textOf(row.messages[0])) ?? '';
}

/** A weight other than 1 is said on the answer, as OpenAI's format has it. */
function weightedAnswer(row: ExampleRow) {
  const message = { role: 'assistant', content: row.chosen };
  return row.weight === 1 ? message : { ...message, weight: row.weight };
}

const LINES: Readonly<Record<ExportFormat, Readonly<Record<Kind, Line>>>> = {
  trl: {
    sft: (row) => ({ prompt: row.messages, completion: answer(row.chosen) }),
    dpo: (row) => ({ prompt: row.messages, chosen: answer(row.chosen), rejected: answer(row.rejected ?? '') }),
  },
  'trl-plain': {
    sft: (row) => ({ prompt: plainPrompt(row), completion: row.chosen }),
    dpo: (row) => ({ prompt: plainPrompt(row), chosen: row.chosen, rejected: row.rejected ?? '' }),
  },
  openai: {
    sft: (row) => ({ messages: [...row.messages, weightedAnswer(row)] }),
    dpo: (row) => ({
      input: { messages: row.messages },
      preferred_output: answer(row.chosen),
      non_preferred_output: answer(row.rejected ?? ''),
    }),
  },
};

/** One line of an export. */
export function exportLine(format: ExportFormat, kind: Kind, row: ExampleRow): string {
  return JSON.stringify(LINES[format][kind](row));
}
