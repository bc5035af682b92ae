import { getResponseRecord } from '@tuneloop/contracts/responses/internal';
import type { ResponseRecord } from '@tuneloop/contracts/responses/events';
import { AppError, describeError } from '@tuneloop/runtime/errors';
import type { DatasetsContext } from '../config.ts';
import { deleteResponses, findMissingResponses, GONE_VERSION } from '../store/responses.ts';
import { projectWholeResponse } from './projectResponse.ts';

const BATCH = 200;
const CONCURRENCY = 8;
/** Answers that one freeze asks for: by then something is wrong that asking does not mend. */
const MAX_FETCHED = 20_000;

/**
 * Asks their owner for the answers that feedback names and the read model lacks, or has only the beginning of. One that
 * the owner does not have any more is noted as deleted. Returns the number that could not be had.
 */
export async function fetchMissing(ctx: DatasetsContext, projectId: string, signal: AbortSignal): Promise<number> {
  for (let fetched = 0; fetched < MAX_FETCHED; ) {
    const ids = await ctx.pg.withTenant(projectId, (tx) => findMissingResponses(tx, BATCH));
    if (ids.length === 0) return 0;
    const records: ResponseRecord[] = [];
    const gone: string[] = [];
    const queue = [...ids];
    const ask = async (): Promise<void> => {
      for (let id = queue.pop(); id !== undefined; id = queue.pop()) {
        const record = await fetchRecord(ctx, projectId, id, signal);
        if (record === null) gone.push(id);
        else records.push(record);
      }
    };
    try {
      await Promise.all(Array.from({ length: CONCURRENCY }, ask));
    } catch (error) {
      signal.throwIfAborted();
      ctx.log.warn({ missing: ids.length, reason: describeError(error) }, 'answers could not be fetched');
      return ids.length;
    }
    await ctx.pg.withTenant(projectId, async (tx) => {
      for (const record of records) await projectWholeResponse(tx, ctx, record);
      if (gone.length > 0) await deleteResponses(tx, gone, GONE_VERSION);
    });
    fetched += ids.length;
  }
  return (await ctx.pg.withTenant(projectId, (tx) => findMissingResponses(tx, BATCH))).length;
}

async function fetchRecord(
  ctx: DatasetsContext,
  projectId: string,
  id: string,
  signal: AbortSignal,
): Promise<ResponseRecord | null> {
  try {
    return await ctx.callers.call(getResponseRecord, { params: { id } }, { projectId, signal });
  } catch (error) {
    if (error instanceof AppError && error.status === 404) return null;
    throw error;
  }
}
