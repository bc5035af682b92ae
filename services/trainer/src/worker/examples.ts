import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { exampleRow, type ExampleRow } from '@tuneloop/contracts/datasets/internal';
import type { ChatMessage as WireMessage } from '@tuneloop/contracts/responses/events';
import type { ChatFormat, ChatMessage } from '@tuneloop/engine/chat/chatFormat';
import { EngineError } from '@tuneloop/engine/errors';
import type { DpoExample, SftExample } from '@tuneloop/engine/types';

/** Rows of one split, as the datasets service streams them. @throws EngineError naming the line that is damaged */
export async function readRows(file: string): Promise<ExampleRow[]> {
  const rows: ExampleRow[] = [];
  let line = 0;
  for await (const text of createInterface({ input: createReadStream(file), crlfDelay: Infinity })) {
    line++;
    if (text.trim() === '') continue;
    rows.push(parseRow(text, line));
  }
  return rows;
}

function parseRow(text: string, line: number): ExampleRow {
  try {
    return exampleRow.parse(JSON.parse(text));
  } catch (cause) {
    throw new EngineError('trainer.dataset.damaged', `line ${line} of the dataset is not an example`, { cause });
  }
}

/** Tokenised examples, and how many were too long for the model or the limit. */
export interface Encoded<T> {
  readonly examples: T[];
  readonly skippedTooLong: number;
  /** Of all examples together. */
  readonly tokens: number;
}

/** Messages as the template reads them: no content is an empty text. */
export function templateMessages(messages: readonly WireMessage[]): ChatMessage[] {
  return messages.map(({ weight, ...message }) => ({
    ...message,
    content: message.content ?? '',
    ...(weight === undefined ? {} : { weight }),
  }));
}

function collect<T>(rows: readonly ExampleRow[], encode: (row: ExampleRow) => { example: T; tokens: number } | null) {
  const examples: T[] = [];
  let tokens = 0;
  for (const row of rows) {
    const encoded = encode(row);
    if (!encoded) continue;
    examples.push(encoded.example);
    tokens += encoded.tokens;
  }
  return { examples, tokens, skippedTooLong: rows.length - examples.length };
}

/** The whole conversation with the loss on what the assistant says, times the row's weight. */
export function encodeSft(rows: readonly ExampleRow[], chat: ChatFormat, maxLength: number): Encoded<SftExample> {
  return collect(rows, (row) => {
    const { ids, lossWeights } = chat.encodeConversation([
      ...templateMessages(row.messages),
      { role: 'assistant', content: row.chosen },
    ]);
    if (ids.length > maxLength) return null;
    const example = { ids, lossWeights: Float32Array.from(lossWeights, (weight) => weight * row.weight) };
    return { example, tokens: ids.length };
  });
}

/** @throws EngineError for a row without a rejected answer */
export function encodeDpo(rows: readonly ExampleRow[], chat: ChatFormat, maxLength: number): Encoded<DpoExample> {
  return collect(rows, (row) => {
    if (row.rejected === null) {
      throw new EngineError('trainer.dataset.no_rejected', `example ${row.id} has no rejected answer, as dpo needs`);
    }
    const messages = templateMessages(row.messages);
    const prompt = chat.encodePrompt(messages);
    const chosen = chat.encodeAnswer(messages, { role: 'assistant', content: row.chosen });
    const rejected = chat.encodeAnswer(messages, { role: 'assistant', content: row.rejected });
    if (prompt.length + Math.max(chosen.length, rejected.length) > maxLength) return null;
    return {
      example: { prompt, chosen, rejected },
      tokens: 2 * prompt.length + chosen.length + rejected.length,
    };
  });
}
