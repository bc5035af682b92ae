/** From rows to token ids, for each method. */
import type { ChatFormat, ChatMessage } from '@tuneloop/engine/chat/chatFormat';
import type { Tokenizer } from '@tuneloop/engine/tokenizer/tokenizer';
import type { DpoExample, KtoExample, RewardPair, ScoredText, SftExample } from '@tuneloop/engine/types';
import { DataError } from './jsonLines.ts';
import type { Answer, Prompt, Row, RowKind } from './rows.ts';

/** What texts are written with. Without `chat`, prompts and answers are joined as they are. */
export interface Writing {
  readonly tokenizer: Tokenizer;
  readonly chat?: ChatFormat;
  readonly eosTokenIds: readonly number[];
  /** Longer examples are cut (sft) or left out (preferences). In tokens. */
  readonly maxLength: number;
}

export interface Encoded<T> {
  readonly examples: readonly T[];
  /** Of each example, as it enters training. */
  readonly lengths: readonly number[];
  /** Lines of examples cut at `maxLength`. */
  readonly cut: readonly number[];
  /** Lines of examples that are not used: too long, or nothing to learn left after the cut. */
  readonly left: readonly number[];
}

interface Sized<T> {
  readonly example: T;
  readonly length: number;
  readonly cut?: boolean;
}

function collect<T, R extends Row>(rows: readonly R[], encode: (row: R) => Sized<T> | undefined): Encoded<T> {
  const examples: T[] = [];
  const lengths: number[] = [];
  const cut: number[] = [];
  const left: number[] = [];
  for (const row of rows) {
    const sized = encode(row);
    if (sized === undefined) {
      left.push(row.line);
      continue;
    }
    examples.push(sized.example);
    lengths.push(sized.length);
    if (sized.cut === true) cut.push(row.line);
  }
  return { examples, lengths, cut, left };
}

const asMessages = (prompt: Prompt): readonly ChatMessage[] =>
  typeof prompt === 'string' ? [{ role: 'user', content: prompt }] : prompt;

const asMessage = (answer: Answer): ChatMessage =>
  typeof answer === 'string' ? { role: 'assistant', content: answer } : answer;

function plain(part: Prompt | Answer, row: Row): string {
  if (typeof part === 'string') return part;
  throw new DataError(`line ${row.line} holds messages, and this model has no chat template to write them with`);
}

/** Text as it is, with what the tokenizer puts before a text (a beginning token), and without an end. */
function plainPrompt(text: string, { tokenizer, eosTokenIds }: Writing): number[] {
  const ids = tokenizer.encode(text, { addSpecialTokens: true });
  while (ids.length > 0 && eosTokenIds.includes(ids.at(-1)!)) ids.pop();
  return ids;
}

interface Encodings {
  prompt: number[];
  answers: number[][];
}

/** A prompt and its answers, each ending as the model would end it. */
function encodeAnswers(row: Row, prompt: Prompt, answers: readonly Answer[], writing: Writing): Encodings {
  const { chat, tokenizer, eosTokenIds } = writing;
  if (chat !== undefined) {
    const messages = asMessages(prompt);
    const options = 'tools' in row && row.tools !== undefined ? { tools: row.tools } : {};
    return {
      prompt: chat.encodePrompt(messages, options),
      answers: answers.map((answer) => chat.encodeAnswer(messages, asMessage(answer), options)),
    };
  }
  const end = eosTokenIds.slice(0, 1);
  return {
    prompt: plainPrompt(plain(prompt, row), writing),
    answers: answers.map((answer) => [...tokenizer.encode(plain(answer, row)), ...end]),
  };
}

function wrongKind(row: Row, method: string, fitting: string): DataError {
  const what: Record<RowKind, string> = {
    conversation: 'a conversation',
    text: 'plain text',
    completion: 'a prompt with one answer',
    preference: 'a preference between two answers',
    rated: 'a rated answer',
    scored: 'an answer with a score',
  };
  return new DataError(`line ${row.line} is ${what[row.kind]}, which --method ${method} cannot learn from: ${fitting}`);
}

function sftIds(row: Row, writing: Writing): SftExample {
  if (row.kind === 'text') {
    const ids = [...plainPrompt(row.text, writing), ...writing.eosTokenIds.slice(0, 1)];
    return { ids, lossWeights: new Float32Array(ids.length).fill(1) };
  }
  if (row.kind === 'conversation') {
    if (writing.chat === undefined) {
      throw new DataError(`line ${row.line} holds messages, and this model has no chat template to write them with`);
    }
    return writing.chat.encodeConversation(row.messages, row.tools === undefined ? {} : { tools: row.tools });
  }
  if (row.kind === 'completion') {
    const { prompt, answers } = encodeAnswers(row, row.prompt, [row.answer], writing);
    const ids = [...prompt, ...answers[0]!];
    return { ids, lossWeights: new Float32Array(ids.length).fill(1, prompt.length) };
  }
  const fitting = { preference: 'use --method dpo', rated: 'use --method kto', scored: 'use --method reward' }[
    row.kind
  ];
  throw wrongKind(row, 'sft', fitting);
}

/** Supervised texts, the loss on what the assistant says. @throws DataError */
export function encodeSft(rows: readonly Row[], writing: Writing): Encoded<SftExample> {
  return collect(rows, (row) => {
    const { ids, lossWeights } = sftIds(row, writing);
    const length = Math.min(ids.length, writing.maxLength);
    for (let t = 1; t < length; t++) {
      if (lossWeights[t] !== 0) {
        return { example: { ids, lossWeights }, length, cut: length < ids.length };
      }
    }
    return undefined;
  });
}

/** Preferences. @throws DataError */
export function encodePreferences(rows: readonly Row[], writing: Writing, method: string): Encoded<DpoExample> {
  return collect(rows, (row) => {
    if (row.kind !== 'preference') throw wrongKind(row, method, 'it needs {prompt, chosen, rejected} on every line');
    const { prompt, answers } = encodeAnswers(row, row.prompt, [row.chosen, row.rejected], writing);
    const [chosen = [], rejected = []] = answers;
    if (prompt.length + Math.max(chosen.length, rejected.length) > writing.maxLength) return undefined;
    return { example: { prompt, chosen, rejected }, length: prompt.length + chosen.length + rejected.length };
  });
}

/** Judged texts; a preference gives two. @throws DataError */
export function encodeRated(rows: readonly Row[], writing: Writing): Encoded<KtoExample> {
  const judged = rows.flatMap((row): RatedRow[] => {
    if (row.kind === 'rated') return [row];
    if (row.kind !== 'preference') throw wrongKind(row, 'kto', 'it needs {prompt, completion, label} on every line');
    const { line, prompt } = row;
    return [
      { kind: 'rated', line, prompt, answer: row.chosen, desirable: true },
      { kind: 'rated', line, prompt, answer: row.rejected, desirable: false },
    ];
  });
  return collect(judged, (row) => {
    const { prompt, answers } = encodeAnswers(row, row.prompt, [row.answer], writing);
    const completion = answers[0]!;
    const length = prompt.length + completion.length;
    if (length > writing.maxLength) return undefined;
    return { example: { prompt, completion, desirable: row.desirable }, length };
  });
}

/** Preferences for a reward model. @throws DataError */
export function encodeRewardPairs(rows: readonly Row[], writing: Writing): Encoded<RewardPair> {
  const { examples, ...rest } = encodePreferences(rows, writing, 'reward');
  const left = new Set(rest.left);
  const kept = rows.filter((row) => !left.has(row.line));
  const judged = examples.map((pair, i): RewardPair => {
    const row = kept[i]!;
    if (row.kind !== 'preference') return pair;
    const { margin, dimension } = row;
    return { ...pair, ...(margin === undefined ? {} : { margin }), ...(dimension === undefined ? {} : { dimension }) };
  });
  return { examples: judged, ...rest };
}

/** Answers with scores for a reward model. @throws DataError */
export function encodeScored(rows: readonly Row[], writing: Writing): Encoded<ScoredText> {
  return collect(rows, (row) => {
    if (row.kind !== 'scored') throw wrongKind(row, 'reward', 'its first line is a score, so all must be');
    const { prompt, answers } = encodeAnswers(row, row.prompt, [row.answer], writing);
    const ids = [...prompt, ...answers[0]!];
    return ids.length > writing.maxLength ? undefined : { example: { ids, scores: row.scores }, length: ids.length };
  });
}

/** What the head of a reward model gives: every dimension that the rows name, in their order. */
export function rewardDimensions(rows: readonly Row[]): string[] {
  const named = rows.flatMap((row) => {
    if (row.kind === 'scored') return Object.keys(row.scores);
    return row.kind === 'preference' && row.dimension !== undefined ? [row.dimension] : [];
  });
  // A pair that names none is about the first.
  return named.length === 0 ? ['reward'] : [...new Set(named)];
}

type RatedRow = Extract<Row, { readonly kind: 'rated' }>;
