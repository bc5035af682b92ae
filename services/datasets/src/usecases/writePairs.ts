import { generate } from '@tuneloop/contracts/responses/internal';
import { AppError, describeError } from '@tuneloop/runtime/errors';
import type { DatasetsContext } from '../config.ts';
import type { SourceChunk } from '../domain/autoExamples.ts';
import {
  answerFormat,
  readWritten,
  recipeOf,
  type WritingMode,
  writingMessages,
  type WrittenPairs,
} from '../domain/pairWriting.ts';
import { findPairs, insertPairs } from '../store/documents.ts';

/** Chunks asked for in one call; a call fails as a whole. */
const BATCH = 8;
const ATTEMPTS = 3;
const CALL_TIMEOUT_MS = 300_000;
const MAX_TOKENS = 2_048;
const TEMPERATURE = 0.7;

export interface Writing {
  readonly mode: WritingMode;
  readonly count: number;
  readonly model: string;
}

export interface FailedChunk {
  readonly chunkId: string;
  readonly reason: string;
}

/**
 * Has a model write examples from each chunk that has none by this recipe yet. What is written is kept at once, so a
 * build that breaks off or fails in part goes on where it was. Returns the chunks for which no answer could be used.
 * @throws AppError when the model cannot be asked at all
 */
export async function writePairs(
  ctx: DatasetsContext,
  projectId: string,
  chunks: readonly SourceChunk[],
  writing: Writing,
  signal: AbortSignal,
): Promise<FailedChunk[]> {
  const recipe = recipeOf(writing.mode, writing.count, writing.model);
  const failed: FailedChunk[] = [];
  for (let at = 0; at < chunks.length; at += BATCH) {
    signal.throwIfAborted();
    const batch = chunks.slice(at, at + BATCH);
    const known = await ctx.pg.withTenant(projectId, (tx) =>
      findPairs<WrittenPairs>(
        tx,
        recipe,
        batch.map((chunk) => chunk.id),
      ),
    );
    const open = batch.filter((chunk) => !known.has(chunk.id));
    if (open.length > 0) failed.push(...(await writeBatch(ctx, projectId, open, { ...writing, recipe }, signal)));
  }
  return failed;
}

async function writeBatch(
  ctx: DatasetsContext,
  projectId: string,
  chunks: readonly SourceChunk[],
  writing: Writing & { readonly recipe: string },
  signal: AbortSignal,
): Promise<FailedChunk[]> {
  const complaints = new Map<string, string>();
  let open = [...chunks];
  for (let attempt = 1; attempt <= ATTEMPTS && open.length > 0; attempt++) {
    const answers = await ask(ctx, projectId, open, { ...writing, attempt, complaints }, signal);
    const written = open.flatMap((chunk) => {
      const answer = answers.get(chunk.id);
      if (answer === undefined) return [];
      const pairs = 'error' in answer ? answer.error : readWritten(writing.mode, answer.text, chunk);
      if (typeof pairs !== 'string') return [{ chunkId: chunk.id, pairs }];
      complaints.set(chunk.id, pairs);
      return [];
    });
    await ctx.pg.withTenant(projectId, (tx) => insertPairs(tx, writing.recipe, written));
    const done = new Set(written.map((item) => item.chunkId));
    open = open.filter((chunk) => !done.has(chunk.id));
  }
  return open.map((chunk) => ({ chunkId: chunk.id, reason: complaints.get(chunk.id) ?? 'the model gave no answer' }));
}

type Answer = { readonly text: string } | { readonly error: string };

/** One call for all; where that fails, one for each, so that a chunk which the model refuses stops no other. */
async function ask(
  ctx: DatasetsContext,
  projectId: string,
  chunks: readonly SourceChunk[],
  how: Writing & { readonly attempt: number; readonly complaints: ReadonlyMap<string, string> },
  signal: AbortSignal,
): Promise<Map<string, Answer>> {
  try {
    const { items } = await ctx.callers.call(
      generate,
      {
        body: {
          target: { base_model: how.model, checkpoint_id: null, storage_key: null },
          items: chunks.map((chunk) => ({
            key: chunk.id,
            messages: writingMessages(how.mode, how.count, chunk, how.complaints.get(chunk.id) ?? null),
          })),
          temperature: TEMPERATURE,
          max_tokens: MAX_TOKENS,
          purpose: 'pairs' as const,
          response_format: answerFormat(how.mode),
        },
      },
      { projectId, signal, timeoutMs: CALL_TIMEOUT_MS },
    );
    return new Map(items.map((item) => [item.key, { text: item.choices[0]?.text ?? '' }]));
  } catch (error) {
    signal.throwIfAborted();
    // Away, over budget or not there at all: no chunk would fare better.
    if (!(error instanceof AppError) || error.retry || error.status === 402 || error.status === 404) throw error;
    if (chunks.length === 1) return new Map([[chunks[0]!.id, { error: describeError(error, 300) }]]);
    const answers = new Map<string, Answer>();
    for (const chunk of chunks) {
      for (const [key, answer] of await ask(ctx, projectId, [chunk], how, signal)) answers.set(key, answer);
    }
    return answers;
  }
}
