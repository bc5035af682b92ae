/**
 * The forms in which people keep training data, each read into one of five kinds of row:
 *
 *   {messages}                                             conversation  OpenAI chat, TRL
 *   {conversations: [{from, value}]}                       conversation  ShareGPT
 *   {instruction, input?, output}                          completion    Alpaca
 *   {prompt, completion}                                   completion    TRL, OpenAI's older files
 *   {text}                                                 text          plain text
 *   {input: {messages}, preferred_output, non_preferred_output}  preference    OpenAI dpo
 *   {prompt?, chosen, rejected}                            preference    TRL; without a prompt the shared beginning is it
 *   {prompt, completion, label}                            rated         TRL kto
 *   {prompt, completion, score | scores: {name: number}}   scored        for reward models
 */
import type { ChatMessage } from '@tuneloop/engine/chat/chatFormat';
import { z } from 'zod';
import { LineError } from './jsonLines.ts';

/** Plain text, or the messages before the answer. */
export type Prompt = string | readonly ChatMessage[];
/** Plain text, or what the assistant says: one message. */
export type Answer = string | ChatMessage;
type Tools = readonly unknown[];

export type Row = { readonly line: number } & (
  | { readonly kind: 'conversation'; readonly messages: readonly ChatMessage[]; readonly tools?: Tools }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'completion'; readonly prompt: Prompt; readonly answer: Answer; readonly tools?: Tools }
  | {
      readonly kind: 'preference';
      readonly prompt: Prompt;
      readonly chosen: Answer;
      readonly rejected: Answer;
      /** How much better the chosen one is, where the file says so (reward models). */
      readonly margin?: number;
      /** In which respect, for reward models of several dimensions. */
      readonly dimension?: string;
      readonly tools?: Tools;
    }
  | {
      readonly kind: 'scored';
      readonly prompt: Prompt;
      readonly answer: Answer;
      readonly scores: Readonly<Record<string, number>>;
    }
  | { readonly kind: 'rated'; readonly prompt: Prompt; readonly answer: Answer; readonly desirable: boolean }
);
export type RowKind = Row['kind'];

const ROLES = ['system', 'developer', 'user', 'assistant', 'tool', 'function'] as const;

const textPart = z.object({ type: z.literal('text', 'only text parts can be trained on'), text: z.string() });
const content = z.union([z.string(), z.array(textPart), z.null()], 'must be text').optional();
const message = z
  .looseObject({
    role: z.enum(ROLES, `must be one of ${ROLES.join(', ')}`),
    content,
    weight: z.number().min(0).optional(),
  })
  .transform(
    ({ content: parts, weight, ...rest }): ChatMessage => ({
      ...rest,
      // Templates know no developers; a message that only calls tools has no content, which templates read as empty text.
      role: rest.role === 'developer' ? 'system' : rest.role,
      content: Array.isArray(parts) ? parts.map((part) => part.text).join('') : (parts ?? ''),
      ...(weight === undefined ? {} : { weight }),
    }),
  );
const messages = z.array(message).min(1, 'must hold at least one message');
const nonEmpty = z.string().refine((text) => text.trim() !== '', 'is empty');
const prompt = z.union([nonEmpty, messages], 'must be text or a list of messages');
const tools = z.array(z.unknown()).optional();

const judged = { margin: z.number().optional(), dimension: z.string().min(1).optional() };

const forms = {
  conversation: z.looseObject({ messages, tools }),
  shareGpt: z.looseObject({
    conversations: z.array(z.looseObject({ from: z.string(), value: z.string() })).min(1),
  }),
  alpaca: z.looseObject({ instruction: nonEmpty, input: z.string().optional(), output: nonEmpty }),
  completion: z.looseObject({ prompt, completion: prompt, tools }),
  text: z.looseObject({ text: nonEmpty }),
  openAiPreference: z.looseObject({
    input: z.looseObject({ messages, tools }),
    preferred_output: messages,
    non_preferred_output: messages,
  }),
  preference: z.looseObject({ prompt, chosen: prompt, rejected: prompt, ...judged, tools }),
  implicitPreference: z.looseObject({ chosen: messages, rejected: messages, ...judged, tools }),
  scored: z.looseObject({
    prompt,
    completion: prompt,
    score: z.number().optional(),
    scores: z.record(z.string().min(1), z.number()).optional(),
  }),
  rated: z.looseObject({ prompt, completion: prompt, label: z.boolean('must be true (good) or false (bad)') }),
};

function read<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new LineError(`${issue.path.map(String).join('.')} ${issue.message}`);
}

const KNOWN_FORMS =
  '{messages}, {prompt, completion}, {text}, {prompt, chosen, rejected}, {prompt, completion, label} or ' +
  '{input, preferred_output, non_preferred_output}';

/** One answer: text as it is, of messages the last one, which must be the assistant's and the only one. */
function answerOf(value: string | readonly ChatMessage[], field: string): Answer {
  if (typeof value === 'string') return value;
  const [only] = value;
  if (value.length !== 1 || only?.role !== 'assistant') {
    throw new LineError(`${field} must be text or exactly one message of the assistant`);
  }
  return only;
}

function sameMessage(a: ChatMessage | undefined, b: ChatMessage | undefined): boolean {
  return a !== undefined && b !== undefined && a.role === b.role && a.content === b.content;
}

const SHARE_GPT_ROLES: Readonly<Record<string, string>> = {
  system: 'system',
  human: 'user',
  user: 'user',
  gpt: 'assistant',
  assistant: 'assistant',
  tool: 'tool',
};

function conversation(turns: readonly ChatMessage[], field: string): readonly ChatMessage[] {
  if (!turns.some(({ role, weight }) => role === 'assistant' && weight !== 0)) {
    throw new LineError(`${field} has no assistant message to learn from (weight 0 leaves one out)`);
  }
  return turns;
}

function shareGpt(value: unknown): readonly ChatMessage[] {
  return read(forms.shareGpt, value).conversations.map(({ from, value: text }, i) => {
    const role = SHARE_GPT_ROLES[from];
    if (role === undefined) throw new LineError(`conversations.${i}.from must be human, gpt or system, found ${from}`);
    return { role, content: text };
  });
}

function implicitPreference(
  value: unknown,
): Pick<Extract<Row, { kind: 'preference' }>, 'prompt' | 'chosen' | 'rejected'> {
  const { chosen, rejected } = read(forms.implicitPreference, value);
  let shared = 0;
  while (sameMessage(chosen[shared], rejected[shared])) shared++;
  if (shared === 0) throw new LineError('chosen and rejected must begin with the same messages, or give a prompt');
  return {
    prompt: chosen.slice(0, shared),
    chosen: answerOf(chosen.slice(shared), 'chosen (after what it shares with rejected)'),
    rejected: answerOf(rejected.slice(shared), 'rejected (after what it shares with chosen)'),
  };
}

const withTools = (given: Tools | undefined): { tools?: Tools } => (given === undefined ? {} : { tools: given });
const withJudgement = ({ margin, dimension }: Judgement): { margin?: number; dimension?: string } => ({
  ...(margin === undefined ? {} : { margin }),
  ...(dimension === undefined ? {} : { dimension }),
});

interface Judgement {
  readonly margin?: number | undefined;
  readonly dimension?: string | undefined;
}

const asText = (answer: Answer): string => (typeof answer === 'string' ? answer : JSON.stringify(answer));

function different(row: Row & { kind: 'preference' }): Row {
  if (asText(row.chosen) === asText(row.rejected))
    throw new LineError('both answers are the same: nothing is preferred');
  return row;
}

function preference(value: object, line: number): Row {
  if ('preferred_output' in value || 'non_preferred_output' in value) {
    const row = read(forms.openAiPreference, value);
    const chosen = answerOf(row.preferred_output, 'preferred_output');
    const rejected = answerOf(row.non_preferred_output, 'non_preferred_output');
    const { messages: context } = row.input;
    return different({ kind: 'preference', line, prompt: context, chosen, rejected, ...withTools(row.input.tools) });
  }
  if (!('prompt' in value)) {
    const { tools: given, ...judgement } = read(forms.implicitPreference, value);
    const parts = implicitPreference(value);
    return different({ kind: 'preference', line, ...parts, ...withJudgement(judgement), ...withTools(given) });
  }
  const row = read(forms.preference, value);
  return different({
    kind: 'preference',
    line,
    prompt: row.prompt,
    chosen: answerOf(row.chosen, 'chosen'),
    rejected: answerOf(row.rejected, 'rejected'),
    ...withJudgement(row),
    ...withTools(row.tools),
  });
}

/** Reads one line in whichever form it has. @throws LineError naming the field and the fix */
export function parseRow(value: unknown, line: number): Row {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new LineError(`must be an object, such as {"messages": […]}`);
  }
  if ('preferred_output' in value || 'non_preferred_output' in value || 'chosen' in value || 'rejected' in value) {
    return preference(value, line);
  }
  if ('label' in value && 'prompt' in value) {
    const row = read(forms.rated, value);
    return {
      kind: 'rated',
      line,
      prompt: row.prompt,
      answer: answerOf(row.completion, 'completion'),
      desirable: row.label,
    };
  }
  if ('score' in value || 'scores' in value) {
    const row = read(forms.scored, value);
    const scores = { ...(row.score === undefined ? {} : { reward: row.score }), ...row.scores };
    if (Object.keys(scores).length === 0) throw new LineError('scores must name at least one dimension');
    return { kind: 'scored', line, prompt: row.prompt, answer: answerOf(row.completion, 'completion'), scores };
  }
  if ('prompt' in value || 'completion' in value) {
    const row = read(forms.completion, value);
    const answer = answerOf(row.completion, 'completion');
    return { kind: 'completion', line, prompt: row.prompt, answer, ...withTools(row.tools) };
  }
  if ('messages' in value) {
    const row = read(forms.conversation, value);
    return { kind: 'conversation', line, messages: conversation(row.messages, 'messages'), ...withTools(row.tools) };
  }
  if ('conversations' in value) {
    return { kind: 'conversation', line, messages: conversation(shareGpt(value), 'conversations') };
  }
  if ('instruction' in value) {
    const row = read(forms.alpaca, value);
    const context = row.input === undefined || row.input === '' ? '' : `\n\n${row.input}`;
    return { kind: 'completion', line, prompt: row.instruction + context, answer: row.output };
  }
  if ('text' in value) return { kind: 'text', line, text: read(forms.text, value).text };
  throw new LineError(`has the fields ${Object.keys(value).join(', ') || '(none)'}; known forms are ${KNOWN_FORMS}`);
}

/** Reads one line of conversations that are to be answered: {"messages": […]}. @throws LineError */
export function parseMessages(value: unknown): readonly ChatMessage[] {
  const { messages: given } = read(z.looseObject({ messages }), value);
  if (given.at(-1)?.role === 'assistant') throw new LineError('the last message is an answer already: remove it');
  return given;
}
