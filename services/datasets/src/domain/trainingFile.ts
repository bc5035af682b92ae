import { createHash } from 'node:crypto';
import { MAX_TEXT_CHARS } from '@tuneloop/contracts/common';
import { type ChatMessage, chatMessage } from '@tuneloop/contracts/responses/events';
import { z } from 'zod';
import { contextLink, textOf } from './prompts.ts';

/** What one line of a fine-tuning file becomes. */
export interface FileExample {
  readonly messages: ChatMessage[];
  readonly chosen: string;
  readonly rejected: string | null;
  readonly weight: number;
}

export type FileMethod = 'sft' | 'dpo';

/** A line that cannot be trained on, said in words that follow `Line 3: `. */
export class LineError extends Error {
  override readonly name = 'LineError';
}

const GROUP_HASH_CHARS = 32;
const message = z.strictObject(chatMessage.shape);
const messages = z.array(message).min(1).max(2_000);
const output = z.array(message).length(1);
const refusedTools = z.undefined('is not supported yet: remove it');

const supervisedLine = z.strictObject({ messages, tools: refusedTools.optional(), functions: refusedTools.optional() });
const preferenceLine = z.strictObject({
  input: z.strictObject({ messages, tools: refusedTools.optional() }),
  preferred_output: output,
  non_preferred_output: output,
});

/** Reads one line of OpenAI's supervised (`{messages}`) or preference (`{input, …_output}`) format. @throws LineError */
export function parseLine(value: unknown, method: FileMethod): FileExample {
  if (method === 'sft') {
    const line = parse(supervisedLine, value);
    const answer = line.messages.at(-1)!;
    if (answer.role !== 'assistant') throw new LineError('the last message must be from the assistant');
    const context = line.messages.slice(0, -1);
    checkRoles(context, 'messages');
    const chosen = answerText(answer, `messages.${line.messages.length - 1}`);
    return { messages: context, chosen, rejected: null, weight: answer.weight ?? 1 };
  }
  const line = parse(preferenceLine, value);
  checkRoles(line.input.messages, 'input.messages');
  const chosen = outputText(line.preferred_output[0]!, 'preferred_output');
  const rejected = outputText(line.non_preferred_output[0]!, 'non_preferred_output');
  if (chosen === rejected) throw new LineError('preferred_output and non_preferred_output are the same');
  return { messages: line.input.messages, chosen, rejected, weight: 1 };
}

function parse<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const path = issue!.path.map(String).join('.');
  throw new LineError(`${path === '' ? '' : `${path}: `}${issue!.message}`);
}

function outputText(answer: ChatMessage, path: string): string {
  if (answer.role !== 'assistant') throw new LineError(`${path}.0.role must be assistant`);
  return answerText(answer, `${path}.0`);
}

function answerText(answer: ChatMessage, path: string): string {
  const text = textOf(answer);
  if (text === null)
    throw new LineError(`${path} must be plain text: tool calls and images as answers are not supported`);
  if (text.trim() === '') throw new LineError(`${path}.content is empty`);
  if (text.length > MAX_TEXT_CHARS) throw new LineError(`${path}.content is longer than ${MAX_TEXT_CHARS} characters`);
  return text;
}

/** Instructions first, then turns that begin and end with a user's (or a tool's) word and have no two answers in a row. */
function checkRoles(context: readonly ChatMessage[], path: string): void {
  let previous: ChatMessage | undefined;
  for (const [index, current] of context.entries()) {
    const at = `${path}.${index}`;
    const opening = previous === undefined || previous.role === 'system' || previous.role === 'developer';
    if ((current.role === 'system' || current.role === 'developer') && !opening) {
      throw new LineError(`${at}: a ${current.role} message must come before the others`);
    }
    if (current.role === 'assistant' && (opening || previous?.role === 'assistant')) {
      throw new LineError(`${at}: an assistant message must follow a user's or a tool's`);
    }
    if (current.role === 'tool' && previous?.role !== 'tool' && previous?.tool_calls === undefined) {
      throw new LineError(`${at}: a tool message must follow an assistant message with tool_calls`);
    }
    const text = textOf(current);
    if (text?.trim() === '' && current.role !== 'tool') throw new LineError(`${at}.content is empty`);
    previous = current;
  }
  if (!context.some((item) => item.role === 'user')) throw new LineError(`${path}: there is no user message`);
  if (previous?.role === 'assistant')
    throw new LineError(`${path}: the message before the answer must not be the assistant's`);
}

/**
 * The group and the link of an example from a file. Text conversations are grouped as recorded answers are, by what the
 * user said last, so that a prompt that was trained on is not drawn into the test split when people rate it later.
 */
export function groupOfExample(context: readonly ChatMessage[]): { groupKey: string; promptLink: string | null } {
  const promptLink = contextLink(context);
  const asked = context.findLast((item) => item.role === 'user');
  const text = asked === undefined ? null : textOf(asked);
  const normal = (text ?? JSON.stringify(context)).normalize('NFKC').replace(/\s+/g, ' ').trim().toLowerCase();
  const hash = createHash('sha256').update(normal).digest('hex').slice(0, GROUP_HASH_CHARS);
  return { groupKey: `${text === null ? 'file' : 'prompt'}:${hash}`, promptLink };
}
