/** `tuneloop generate`: answers of a model, with or without an adapter. */
import { readFile } from 'node:fs/promises';
import { text as readAll } from 'node:stream/consumers';
import type { ChatMessage } from '@tuneloop/engine/chat/chatFormat';
import type { Generation, GenerateRequest, TokenEvent } from '@tuneloop/engine/sample/request';
import { createSampler, type Sampler } from '@tuneloop/engine/sample/sampler';
import type { CommandLine } from '../commands/engineFlags.ts';
import { type Base, loadBaseAndAdapter } from './baseModel.ts';
import { readJsonLines } from './dataset/jsonLines.ts';
import { parseMessages } from './dataset/rows.ts';

export interface GenerateFlags {
  readonly model?: string;
  readonly adapter?: string;
  readonly prompt?: string;
  readonly system?: string;
  readonly chat?: string;
  readonly plainText?: boolean;
  readonly loadIn4bit: boolean;
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly maxTokens: number;
  readonly seed?: number;
  readonly stop: readonly string[];
  readonly n: number;
  readonly jsonSchema?: string;
  readonly json: boolean;
  readonly stream?: boolean;
  readonly threads: number;
}

const ADAPTER = 'adapter';
/** Conversations of a file that are answered together. */
const MAX_TOGETHER = 32;
const MAX_STDIN_CHARS = 4 * 1024 * 1024;

/** What is to be answered: conversations, or text to go on with. */
type Question = readonly ChatMessage[] | string;

async function questionsOf(flags: GenerateFlags, line: CommandLine): Promise<Question[]> {
  if (flags.chat !== undefined) {
    if (flags.system !== undefined) line.usage('--system goes with --prompt: conversations of --chat bring their own');
    return await readJsonLines(flags.chat, parseMessages);
  }
  let { prompt } = flags;
  if (prompt === undefined) {
    if (process.stdin.isTTY) line.usage('give --prompt, --chat or text on standard input');
    prompt = (await readAll(process.stdin)).slice(0, MAX_STDIN_CHARS).replace(/\n$/, '');
  }
  if (prompt.trim() === '') line.usage('the prompt is empty');
  if (flags.plainText === true) return [prompt];
  const system = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }];
  return [[...system, { role: 'user', content: prompt }]];
}

function promptIds(question: Question, base: Base): number[] {
  if (typeof question === 'string') return base.tokenizer.encode(question, { addSpecialTokens: true });
  if (base.chat !== undefined) return base.chat.encodePrompt(question);
  throw new Error('this model has no chat template: add --plain-text, and it goes on with the prompt as it is');
}

async function requestOf(flags: GenerateFlags): Promise<Omit<GenerateRequest, 'prompt'>> {
  const schema = flags.jsonSchema === undefined ? undefined : await readSchema(flags.jsonSchema);
  return {
    maxTokens: flags.maxTokens,
    temperature: flags.temperature,
    topP: flags.topP,
    topK: flags.topK,
    minP: flags.minP,
    repetitionPenalty: flags.repetitionPenalty,
    stop: flags.stop,
    ...(flags.seed === undefined ? {} : { seed: flags.seed }),
    ...(flags.adapter === undefined ? {} : { adapter: ADAPTER }),
    ...(schema === undefined ? {} : { responseFormat: { type: 'json_schema' as const, schema } }),
  };
}

async function readSchema(path: string): Promise<Record<string, unknown>> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
  } catch (cause) {
    throw new Error(`${path} is not JSON`, { cause });
  }
}

function jsonLine(question: number, sample: number, answer: Generation): string {
  return JSON.stringify({
    index: question,
    sample,
    text: answer.text ?? '',
    finish_reason: answer.finishReason,
    prompt_tokens: answer.promptTokens,
    completion_tokens: answer.tokens.length,
    seed: answer.seed,
  });
}

async function answerAll(
  sampler: Sampler,
  questions: readonly Question[],
  base: Base,
  flags: GenerateFlags,
): Promise<void> {
  const request = await requestOf(flags);
  const prompts = questions.map((question) => promptIds(question, base));
  const only = prompts.length === 1 && flags.n === 1 && !flags.json;
  if (only && (flags.stream ?? process.stdout.isTTY)) {
    const onToken = ({ text }: TokenEvent): boolean => process.stdout.write(text);
    await sampler.generate({ ...request, prompt: prompts[0]!, onToken });
    process.stdout.write('\n');
    return;
  }
  const asJson = flags.json || prompts.length > 1;
  for (let start = 0; start < prompts.length; start += MAX_TOGETHER) {
    const part = prompts.slice(start, start + MAX_TOGETHER);
    const answers = await Promise.all(part.map((prompt) => sampler.generateMany({ ...request, prompt }, flags.n)));
    answers.forEach((samples, i) => {
      if (asJson) samples.forEach((sample, k) => console.log(jsonLine(start + i, k, sample)));
      else console.log(samples.map(({ text = '' }) => text).join('\n---\n'));
    });
  }
}

/** @throws EngineError, DataError, Error with a message for the terminal */
export async function runGenerate(flags: GenerateFlags, line: CommandLine): Promise<void> {
  if (flags.model === undefined && flags.adapter === undefined) line.usage('give --model, --adapter or both');
  const questions = await questionsOf(flags, line);
  const { base, lora } = await loadBaseAndAdapter(flags.model, flags.adapter, { fourBit: flags.loadIn4bit });
  const { model, tokenizer, eosTokenIds } = base;
  const sampler = createSampler({
    model,
    tokenizer,
    eosTokenIds,
    threads: flags.threads,
    maxContext: model.config.maxPositions,
  });
  try {
    if (lora !== undefined) sampler.addAdapter(ADAPTER, lora);
    await answerAll(sampler, questions, base, flags);
  } finally {
    await sampler.close();
  }
}
