import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pipeline } from 'node:stream/promises';
import type { z } from 'zod';
import {
  streamDatasetRows,
  streamTestPrompts,
  testPrompt,
  type TestPrompt,
} from '@tuneloop/contracts/datasets/internal';
import type { split } from '@tuneloop/contracts/datasets/events';
import { AppError } from '@tuneloop/runtime/errors';
import type { TrainerContext } from '../config.ts';

/** For the first byte and for each pause after it. */
const STREAM_TIMEOUT_MS = 60_000;

export interface DatasetReader {
  readonly projectId: string;
  readonly correlationId: string;
  readonly signal: AbortSignal;
}

/** One split of a version as a file, one example a line, for a worker that calls nobody. */
export async function downloadSplit(
  ctx: TrainerContext,
  reader: DatasetReader,
  versionId: string,
  name: z.output<typeof split>,
  folder: string,
): Promise<string> {
  const answer = await ctx.callers.raw(
    streamDatasetRows,
    { params: { id: versionId }, query: { split: name } },
    { ...reader, timeoutMs: STREAM_TIMEOUT_MS },
  );
  const file = join(folder, `${name}.jsonl`);
  await pipeline(answer.body, createWriteStream(file), { signal: reader.signal });
  return file;
}

/** The prompts of the test split, at most so many, in the version's own order. */
export async function readTestPrompts(
  ctx: TrainerContext,
  reader: DatasetReader,
  versionId: string,
  limit: number,
): Promise<TestPrompt[]> {
  const answer = await ctx.callers.raw(
    streamTestPrompts,
    { params: { id: versionId } },
    { ...reader, timeoutMs: STREAM_TIMEOUT_MS },
  );
  const prompts: TestPrompt[] = [];
  for await (const line of createInterface({ input: answer.body, crlfDelay: Infinity })) {
    if (line.trim() === '') continue;
    const parsed = testPrompt.safeParse(JSON.parse(line));
    if (!parsed.success) {
      throw new AppError({
        code: 'trainer.dataset.damaged',
        status: 502,
        message: `Prompt ${prompts.length + 1} of the test split is not one.`,
        retry: false,
        cause: parsed.error,
      });
    }
    prompts.push(parsed.data);
    if (prompts.length >= limit) break;
  }
  answer.body.destroy();
  return prompts;
}
