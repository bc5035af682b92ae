import type { ResponseRecord } from '@tuneloop/contracts/responses/events';
import { findResponseByCompletion, getResponseRecord } from '@tuneloop/contracts/responses/internal';
import type { Callers } from '@tuneloop/runtime/callers';
import { AppError } from '@tuneloop/runtime/errors';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { projectSettings } from '@tuneloop/runtime/projects';
import { projectResponses } from './projectResponses.ts';
import { NotProjectedYet, refKey, type ResponseRef } from './resolveResponses.ts';

/** Calls to responses that one request may have open. */
const MAX_CALLS_AT_ONCE = 16;

interface Owners {
  readonly callers: Callers;
}

type InTransaction = <T>(work: (tx: Tx) => Promise<T>) => Promise<T>;

/**
 * Runs work that needs answers which the projection may not have seen. What it misses is asked of its owners, stored,
 * and the work is run once more: so a reader never depends on how far behind the events are.
 *
 * @param work is told which answers their owner does not know either; it rolls back when it throws
 * @param store runs a transaction that keeps what the owners said
 */
export async function withOwnersAsked<T>(
  owners: Owners,
  projectId: string,
  work: (absent: ReadonlySet<string>) => Promise<T>,
  store: InTransaction,
): Promise<T> {
  try {
    return await work(new Set());
  } catch (error) {
    if (!(error instanceof NotProjectedYet)) throw error;
    const absent = new Set<string>();
    const records = await fetchRecords(owners, projectId, error.refs, absent);
    await store(async (tx) => {
      await projectResponses(tx, records, owners);
      if (error.project) await projectSettings(tx, owners);
    });
    return work(absent);
  }
}

async function fetchRecords(
  owners: Owners,
  projectId: string,
  refs: readonly ResponseRef[],
  absent: Set<string>,
): Promise<ResponseRecord[]> {
  const queue = [...new Map(refs.map((ref) => [refKey(ref), ref])).values()];
  const records: ResponseRecord[] = [];
  const worker = async (): Promise<void> => {
    for (let ref = queue.pop(); ref; ref = queue.pop()) {
      const record = await fetchRecord(owners.callers, projectId, ref);
      if (record) records.push(record);
      else absent.add(refKey(ref));
    }
  };
  await Promise.all(Array.from({ length: Math.min(MAX_CALLS_AT_ONCE, queue.length) }, worker));
  return [...new Map(records.map((record) => [record.response_id, record])).values()];
}

async function fetchRecord(callers: Callers, projectId: string, ref: ResponseRef): Promise<ResponseRecord | null> {
  try {
    return 'responseId' in ref
      ? await callers.call(getResponseRecord, { params: { id: ref.responseId } }, { projectId })
      : await callers.call(
          findResponseByCompletion,
          { query: { completion_id: ref.completionId, choice: ref.choice } },
          { projectId },
        );
  } catch (error) {
    if (error instanceof AppError && error.status === 404) return null;
    throw error;
  }
}
