import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { chatMessage } from '@tuneloop/contracts/responses/events';
import type { ExampleRow } from '@tuneloop/contracts/datasets/internal';
import { readPeftFolder } from '@tuneloop/engine/adapters/peft';
import type { ChatFormat } from '@tuneloop/engine/chat/chatFormat';
import { EngineError } from '@tuneloop/engine/errors';
import { createScorer } from '@tuneloop/engine/train/scorer';
import type { LoraWeights, ScoreRequest } from '@tuneloop/engine/types';
import { z } from 'zod';
import { loadBase } from './baseModel.ts';
import { readRows, templateMessages } from './examples.ts';
import type { PairScore, TextScore } from '../domain/evaluation.ts';
import type { ScoredMessage, ScoreTask } from './messages.ts';

/**
 * A base may bring general texts that tuning must not make it forget: `guard.jsonl` in its folder, one
 * `{"messages": [...], "answer": "..."}` a line.
 */
const GUARD_FILE = 'guard.jsonl';
const MAX_GUARD_TEXTS = 2_000;
const guardText = z.object({ messages: z.array(chatMessage).min(1), answer: z.string().min(1) });

type Text = z.output<typeof guardText>;

/** Log-probabilities of the held-out answers and of the guard texts, under base, incumbent and candidate. */
export async function score(task: ScoreTask): Promise<ScoredMessage> {
  const { model, chat } = await loadBase(task.baseFolder);
  const limit = Math.min(task.maxLength, model.config.maxPositions);
  const rows = await readRows(task.testFile);
  const pairs = rows.flatMap((row) => pairRequests(row, chat, limit) ?? []);
  const guard = (await guardTexts(task.baseFolder)).flatMap((text) => request(text, chat, limit) ?? []);
  const requests = [...pairs.flatMap(({ chosen, rejected }) => (rejected ? [chosen, rejected] : [chosen])), ...guard];
  const scorer = await createScorer({ model, threads: task.threads });
  try {
    const sums = async (lora?: LoraWeights): Promise<number[]> =>
      (await scorer.logProbs(requests, lora)).map((values) => values.reduce((sum, value) => sum + value, 0));
    const base = await sums();
    const before = task.incumbent === null ? base : await sums(await readPeftFolder(task.incumbent));
    const after = await sums(await readPeftFolder(task.candidate));
    const scores = requests.map(
      ({ ids, from = 1 }, i): TextScore => ({
        base: base[i]!,
        before: before[i]!,
        after: after[i]!,
        tokens: ids.length - from,
      }),
    );
    const scored = pairs.reduce<{ at: number; list: PairScore[] }>(
      ({ at, list }, { groupKey, rejected }) => {
        list.push({ groupKey, chosen: scores[at]!, rejected: rejected ? scores[at + 1]! : null });
        return { at: at + (rejected ? 2 : 1), list };
      },
      { at: 0, list: [] },
    );
    return {
      kind: 'scored',
      pairs: scored.list,
      guard: scores.slice(scored.at),
      skippedTooLong: rows.length - pairs.length,
    };
  } finally {
    await scorer.close();
  }
}

function request(text: Text, chat: ChatFormat, limit: number): ScoreRequest | null {
  const messages = templateMessages(text.messages);
  const prompt = chat.encodePrompt(messages);
  const ids = [...prompt, ...chat.encodeAnswer(messages, { role: 'assistant', content: text.answer })];
  return ids.length > limit || ids.length === prompt.length ? null : { ids, from: prompt.length };
}

function pairRequests(row: ExampleRow, chat: ChatFormat, limit: number) {
  const chosen = request({ messages: row.messages, answer: row.chosen }, chat, limit);
  if (!chosen) return null;
  const rejected =
    row.rejected === null ? null : request({ messages: row.messages, answer: row.rejected }, chat, limit);
  if (row.rejected !== null && !rejected) return null;
  return { groupKey: row.group_key, chosen, rejected };
}

async function guardTexts(baseFolder: string): Promise<Text[]> {
  let content: string;
  try {
    content = await readFile(join(baseFolder, GUARD_FILE), 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
  const lines = content.split('\n').filter((line) => line.trim() !== '');
  return lines.slice(0, MAX_GUARD_TEXTS).map((line, index) => {
    try {
      return guardText.parse(JSON.parse(line));
    } catch (cause) {
      throw new EngineError('trainer.guard.damaged', `${GUARD_FILE}, line ${index + 1}: not a guard text`, { cause });
    }
  });
}
